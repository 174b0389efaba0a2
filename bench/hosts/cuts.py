"""Deploys over ssh that are disturbed: what they say, and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import ROOT, Bench
from bench.hosts.ssh_desk import Desk, a_desk, must
from bench.process import BIN

IMAGES = 12  # of a deploy that is disturbed


class Harm(NamedTuple):
    """Something that goes wrong, and how it is mended; `early`: before the command starts, not at a random moment."""

    do: Callable[[Desk], None]
    mend: Callable[[Desk], None]
    early: bool = False


def _nothing(_: Desk) -> None:
    """What ended needs no mending."""


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _clients(desk: Desk) -> list[int]:
    """The ssh clients here."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0] == b"ssh" and bytes(desk.server.config) in words:
                found.append(int(path.parent.name))
    return found


def _fill(desk: Desk) -> None:
    with contextlib.suppress(OSError), (desk.folder("desk") / "filler").open("wb") as file:
        while True:
            file.write(b"\0" * 65536)
            file.flush()


def _other_wheel(desk: Desk) -> None:
    about = desk.work / "wheels" / "ncnn-0.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True, exist_ok=True)
    about.write_text("Metadata-Version: 2.1\nName: ncnn\nVersion: 0.1\n")
    desk.replace_python(f'PYTHONPATH={about.parents[1]} exec {sys.executable} "$@"')


HARMS = {
    "connection cut": Harm(lambda desk: desk.server.cut(), _nothing),
    "client killed": Harm(lambda desk: _kill(_clients(desk)), _nothing),
    "worker killed": Harm(lambda desk: _kill(desk.server.workers()), _nothing),
    "disk full": Harm(_fill, lambda desk: (desk.folder("desk") / "filler").unlink()),
    "python missing": Harm(lambda desk: desk.python.unlink(), Desk.mend, early=True),
    "other wheel": Harm(_other_wheel, Desk.mend, early=True),
    "key unknown": Harm(
        lambda desk: desk.server.known.write_text("") and None,
        lambda desk: desk.server.trust("host"),
        early=True,
    ),
}


def cuts(bench: Bench) -> None:
    """Deploys of the demo's android recipe over ssh, disturbed `--cuts` times at random moments.

    Each must end with code 13 and one sentence that names the host (or not notice, and then it is not counted), leave a store that
    verifies, and after the harm is mended give the locked bytes and the same figures; the rerun makes no finished step again.
    """
    recipe = bench.work / "cuts.yaml"
    recipe.write_text(
        f"extends: {ROOT}/recipes/android.yaml\nname: cuts\n"
        f"data: {{evaluation: {{split: val, images: {IMAGES}}}}}\n"
    )
    chance, told, good, spared, ended = random.Random(0), Counter[str](), 0, 0, 0
    with a_desk(bench) as desk, _small_disk(desk.folder("desk")):
        must(desk.deploy(recipe))
        desk.forget()
        expected = _figures(must(desk.deploy(recipe, "--on", "desk"))[2])
        whole = _whole(desk, recipe)
        while ended < bench.options.cuts:
            name = list(HARMS)[ended % len(HARMS)]
            moment = chance.uniform(0, whole)
            found = _disturbed(desk, recipe, HARMS[name], moment, expected)
            if isinstance(found, float):
                whole = min(whole, found)  # it was over before the moment came
                continue
            faults, code, kept = found
            told[f"{name}: code {code}"] += 1
            spared += kept
            for fault in faults:
                print(f"{ended} ({name}): {fault}", flush=True)
            if faults or code:
                ended, good = ended + 1, good + (not faults)
                print(f"{good} of {ended} so far", flush=True)
    for what, count in sorted(told.items()):
        print(f"{what:<28} {count} times")
    print(
        f"{good} of {bench.options.cuts} disturbed deploys ended in a sentence, lost nothing and went on to the same result; "
        f"moments in the {whole:.1f} s for which they were connected; {spared} finished results were kept and reused"
    )


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of a few megabytes at the other end, where root can mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "yolodeploy-bench", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        print("no small disk here (needs root): filling the whole one is left out")
        HARMS.pop("disk full")
    try:
        yield
    finally:
        if not done.returncode:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _whole(desk: Desk, recipe: Path) -> float:
    """Seconds for which a deploy is connected."""
    desk.forget()
    _clean(desk.folder("desk"))
    process, start = desk.start(recipe, "--on", "desk"), time.perf_counter()
    while process.poll() is None and not desk.server.children():
        time.sleep(0.02)
    connected = time.perf_counter()
    process.communicate()
    print(
        f"a deploy takes {time.perf_counter() - start:.1f} s, and is connected for {time.perf_counter() - connected:.1f} s"
    )
    return time.perf_counter() - connected


def _clean(folder: Path) -> None:
    """Remove what is in a folder, which may be a mounted disk."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _figures(report: dict[str, Any]) -> str:
    """What must not depend on disturbances."""
    evidence = report["evidence"]
    kept = {name: evidence[name] for name in ("map50_95", "map50", "fidelity", "output_diff")}
    return json.dumps([report["artifact"]["digest"], kept], sort_keys=True)


def _disturbed(
    desk: Desk, recipe: Path, harm: Harm, moment: float, expected: str
) -> tuple[list[str], int, int] | float:
    """Faults, the exit code, and how many finished results were kept; or for how long the deploy was connected if it ended before the harm."""
    ended = _ended(desk, recipe, harm, moment)
    harm.mend(desk)
    if isinstance(ended, float):
        return ended
    faults = _spoken(*ended)
    before = _objects(desk)
    code, error, report, _ = desk.deploy(recipe, "--on", "desk", "--locked")
    if code:
        faults.append(f"the rerun ended with {code}: {error[-300:]}")
    elif _figures(report) != expected:
        faults.append("the rerun gave other figures")
    if not before <= _objects(desk):
        faults.append("a finished result was lost or made again")
    verify = [str(BIN / "yolodeploy"), "cache", "verify", "--cache", str(desk.cache)]
    if subprocess.run(verify, capture_output=True, check=False).returncode:
        faults.append("the store does not verify")
    if left := desk.server.workers():
        faults.append(f"{len(left)} workers live on")
    return faults, ended[0], len(before)


def _ended(desk: Desk, recipe: Path, harm: Harm, moment: float) -> tuple[int, str] | float:
    """Code and messages of a deploy that is harmed so many seconds after it connected; or after how many it ended before."""
    desk.forget()
    _clean(desk.folder("desk"))
    if harm.early:
        harm.do(desk)
    process, passed, over = desk.start(recipe, "--on", "desk", "--locked"), 0.0, False
    if not harm.early:
        while process.poll() is None and not desk.server.children():
            time.sleep(0.02)
        connected = time.perf_counter()
        while process.poll() is None and (passed := time.perf_counter() - connected) < moment:
            time.sleep(0.02)
        over = process.poll() is not None
        harm.do(desk)
    try:
        _, said = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        said += "\nIT HUNG"
    return passed if over else (process.returncode, said.strip())


def _spoken(code: int, said: str) -> list[str]:
    """What is wrong with how a disturbed deploy ended."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 0 and not errors:
        return []  # it was over, or had no need of what was harmed
    if code != 13 or len(errors) != 1 or "host `desk`: " not in errors[0] or "Traceback" in said:
        return [f"code {code}: {said[-400:]}"]
    return []


def _objects(desk: Desk) -> set[tuple[str, int]]:
    """Ids of finished objects, and when each was made."""
    return {
        (p.parent.name, p.stat().st_mtime_ns) for p in desk.cache.glob("objects/??/*/meta.json")
    }
