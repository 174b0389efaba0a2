"""Measuring over ssh, on this machine's own sshd: how long that takes, and what is left when it is disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import DEVICES, ROOT, Bench
from bench.process import BIN
from yolodeploy.store import Store

sys.path[:0] = [str(ROOT / "tests" / "yolodeploy")]

from ssh_server import SshServer, ssh_server  # noqa: E402 - of the tests

IMAGES = 128
CUT_IMAGES = 12  # of a deploy that is disturbed
FIRST, SECOND = 1.3, 1.1  # times the wall time here
MEASURED = ("evidence", "timings")  # results that are made again
Answer = tuple[int, str, dict[str, Any], float]  # exit code, message, report, seconds


class Desk:
    """A store of its own, and a hosts.toml that names this machine's sshd `desk`."""

    def __init__(self, bench: Bench, server: SshServer) -> None:
        self.work, self.server = bench.work / "ssh", server
        self.work.mkdir(parents=True, exist_ok=True)
        self.cache = self.work / "cache"
        self.python = self.work / "python"
        self.mend()
        file = self.work / "yolodeploy" / "hosts.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(self._host(name) for name in ("desk", "again")))

    def _host(self, name: str) -> str:
        return (
            f'[{name}]\nkind = "ssh"\naddress = "desk"\nconfig = "{self.server.config}"\n'
            f'python = "{self.python}"\nfolder = "{self.folder(name)}"\n'
        )

    def folder(self, name: str) -> Path:
        """Where the worker of a host writes."""
        return self.server.home / name

    def mend(self) -> None:
        """Put this Python at the other end."""
        self.replace_python(f'exec {sys.executable} "$@"')

    def replace_python(self, script: str) -> None:
        """Put a script in the place of Python at the other end."""
        self.python.unlink(missing_ok=True)
        self.python.write_text(f"#!/bin/sh\n{script}\n")
        self.python.chmod(0o755)

    def start(self, recipe: Path, *more: str) -> subprocess.Popen[str]:
        """Start a deploy."""
        words = ["deploy", "--allow", "/", str(recipe), "--json", "-q", "--cache", str(self.cache)]
        return subprocess.Popen(
            [str(BIN / "yolodeploy"), *words, "--dist", str(self.work / "dist"), *more],
            cwd=self.work,
            env={**os.environ, "XDG_CONFIG_HOME": str(self.work)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deploy(self, recipe: Path, *more: str) -> Answer:
        """Deploy, to the end."""
        start = time.perf_counter()
        process = self.start(recipe, *more)
        out, err = process.communicate()
        return process.returncode, err.strip(), json.loads(out or "{}"), time.perf_counter() - start

    def forget(self) -> None:
        """Remove what was measured from the store; artifacts and the source model's findings stay."""
        store = Store(self.cache, print)
        for home, meta in store.entries():
            if meta and meta.format in MEASURED:
                store.remove(home)


@contextlib.contextmanager
def _desk(bench: Bench) -> Iterator[Desk]:
    folder = bench.work / "sshd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ssh_server(folder) as server:
        yield Desk(bench, server)


def over_ssh(bench: Bench) -> None:
    """Deploys of int8 artifacts whose evidence is made, here and over ssh: the first time, and when the host keeps the images.

    All of them find the artifact, the float export and the source model's findings in the store.
    """
    with _desk(bench) as desk:
        for name, backend in (("intel", "openvino"), ("android", "ncnn")):
            steps = "[{export: {precision: fp32}}, quantize]"
            views = f"evaluation: {{images: {IMAGES}}}, calibration: {{split: train, images: 32}}"
            recipe = bench.write(f"ssh-{name}", DEVICES[name], steps, views)
            _must(desk.deploy(recipe))
            _must(desk.deploy(recipe, "--on", "again"))
            _report(backend, [_three(desk, recipe, number) for number in range(bench.options.runs)])


def _three(desk: Desk, recipe: Path, number: int) -> tuple[float, float, float]:
    """Seconds of a deploy here, of the first and of a later one there; in turns."""
    ways: list[tuple[str, ...]] = [(), ("--on", "desk"), ("--on", "again")]
    seconds = {}
    shutil.rmtree(desk.folder("desk"), ignore_errors=True)
    for place in range(3):
        way = ways[(number + place) % 3]
        desk.forget()
        seconds[way] = _must(desk.deploy(recipe, *way))[3]
    return seconds[ways[0]], seconds[ways[1]], seconds[ways[2]]


def _must(answer: Answer) -> Answer:
    if answer[0]:
        sys.exit(answer[1])
    return answer


def _report(backend: str, runs: list[tuple[float, float, float]]) -> None:
    for which, name, limit in ((1, "the first time", FIRST), (2, "images kept there", SECOND)):
        ratios = [run[which] / run[0] for run in runs]
        print(
            f"{backend:<10} {name:<18} {statistics.median(run[which] for run in runs):5.1f} s, here "
            f"{statistics.median(run[0] for run in runs):5.1f} s: {statistics.median(ratios):.2f} times (limit {limit}; "
            f"{len(runs)} runs, {min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


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
        f"data: {{evaluation: {{split: val, images: {CUT_IMAGES}}}}}\n"
    )
    chance, told, good, spared, ended = random.Random(0), Counter[str](), 0, 0, 0
    with _desk(bench) as desk, _small_disk(desk.folder("desk")):
        _must(desk.deploy(recipe))
        desk.forget()
        expected = _figures(_must(desk.deploy(recipe, "--on", "desk"))[2])
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
