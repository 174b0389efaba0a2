"""The store under fire: real deploys killed at random moments, and what the next run makes of that."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.common import ROOT, Bench

COMMAND = [sys.executable, "-m", "yolodeploy"]


def fire(bench: Bench) -> None:
    """SIGKILL to the whole process group of a deploy at work, `--kills` times, each in an empty store.

    A deploy that had ended by itself does not count. The recipe is recipes/intel.yaml measured on 8 images. After each kill the store verifies, `deploy --locked`
    succeeds (so that every step has the digest of the lock), runs no step that had a result, and nothing is left
    where users look.
    """
    recipe = bench.work / "fire.yaml"
    recipe.write_text(
        f"extends: {ROOT}/recipes/intel.yaml\nname: fire\n"
        "data: {evaluation: {split: val, images: 8}}\n"
    )
    killed, survived, spared, whole = 0, 0, 0, _whole(bench, recipe)
    chance = random.Random(0)
    while killed < bench.options.kills:
        cache, dist = bench.work / "fire" / "cache", bench.work / "fire" / "dist"
        shutil.rmtree(cache.parent, ignore_errors=True)
        dist.mkdir(parents=True)
        if not _kill(recipe, cache, dist, chance.uniform(0.05, whole)):
            continue
        killed += 1
        finished = _objects(cache)
        spared += len(finished)
        faults = _faults(recipe, cache, dist)
        if not finished <= _objects(cache):
            faults.append("a finished result was lost or made again")
        survived += not faults
        for fault in faults:
            print(f"kill {killed}: {fault}", flush=True)
    print(
        f"{survived} of {killed} kills survived, at moments of a deploy of {whole:.1f} s; "
        f"{spared} finished results were kept and reused"
    )


def _arguments(recipe: Path, cache: Path, dist: Path) -> list[str]:
    return [
        *COMMAND,
        "deploy",
        str(recipe),
        "-q",
        "--cache",
        str(cache),
        "--dist",
        str(dist),
        "--allow",
        str(ROOT),
    ]


def _whole(bench: Bench, recipe: Path) -> float:
    start = time.perf_counter()
    work = bench.work / "fire"
    command = _arguments(recipe, work / "cache", work / "dist")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _kill(recipe: Path, cache: Path, dist: Path, seconds: float) -> bool:
    """Start a deploy, and kill it and all it started after a while; whether it was still at work."""
    process = subprocess.Popen(
        [*_arguments(recipe, cache, dist), "--locked"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _objects(cache: Path) -> set[tuple[str, int]]:
    """Ids of finished objects, and when each was made."""
    return {(p.parent.name, p.stat().st_mtime_ns) for p in cache.glob("objects/??/*/meta.json")}


def _faults(recipe: Path, cache: Path, dist: Path) -> list[str]:
    commands = {
        "the store does not verify": [*COMMAND, "cache", "verify", "--cache", str(cache)],
        "the next deploy fails": [*_arguments(recipe, cache, dist), "--locked"],
        "the store does not verify after it": [*COMMAND, "cache", "verify", "--cache", str(cache)],
        "prune fails": [*COMMAND, "cache", "prune", "--cache", str(cache)],
        "the bundle does not verify": [
            *COMMAND,
            "verify",
            str(dist / "fire"),
            "--cache",
            str(cache),
        ],
    }
    faults = []
    for what, command in commands.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            faults.append(f"{what}: {done.stderr.strip()[-300:]}")
    left = [*cache.glob("tmp/*"), *cache.glob("users/*"), *(p for p in dist.glob(".*~*"))]
    return faults + [f"left behind: {path.name}" for path in left]
