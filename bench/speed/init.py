"""From a checkpoint and its data to bundles that passed their checks, in two commands, for every family and task.

`yolodeploy init best.pt --data DATA`, then the command that it prints, as it stands. Nothing is edited in between. And how long
`init` and `compare` of ten of the bundles take, in turns with `yolodeploy --version`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import ROOT, Bench
from bench.process import BIN, Run, in_turns, median, run

SHAPES = ROOT / "examples" / "shapes"
DATA = {"cls": "data-classify", "obb": "data-obb/data.yaml", "pose": "data-pose/data.yaml", "seg": "data-segment/data.yaml"}  # fmt: skip
LIMIT, LIMIT_OF_TEN = 1.5, 1.0  # seconds of `init`, of `compare` with ten bundles


@dataclass(frozen=True)
class _Case:
    name: str
    weights: Path
    data: Path


def init(bench: Bench) -> None:
    """The table of models: what the two commands made of them."""
    print("| model | init, s | deploy, s | bundles | checks missed |")
    print("|---|---|---|---|---|")
    whole = 0
    wanted = bench.options.models
    cases = [each for each in _cases(bench) if not wanted or each.name in wanted]
    for case in cases:
        row = _two_commands(bench, case)
        whole += row["made"] == row["recipes"]
        missed = "; ".join(row["missed"]) or "none"
        print(
            f"| {case.name} | {row['init']:.2f} | {row['deploy']:.0f} | {row['made']} of {row['recipes']} | {missed} |",
            flush=True,
        )
    print(f"\n{whole} of {len(cases)} models in two commands")
    for case in cases:
        if case.name in ("shapes-yolov8n", "COCO"):
            _timed(bench, case)
    _compared(bench)


def _cases(bench: Bench) -> Iterator[_Case]:
    for weights in sorted((ROOT / "models").glob("*.pt")):
        task = weights.stem.rpartition("-")[2]
        yield _Case(weights.stem, weights, SHAPES / DATA.get(task, "data/data.yaml"))
    if bench.options.imgsz == 640:
        yield _Case("COCO", Path(bench.options.weights), Path(bench.options.data))


def _two_commands(bench: Bench, case: _Case) -> dict[str, Any]:
    """Both commands in a folder that holds nothing but the checkpoint."""
    folder = bench.work / "init" / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(case.weights, folder / "best.pt")
    start = time.perf_counter()
    first = ["init", "best.pt", "--data", str(case.data), "--json"]
    proposed = json.loads(_yolodeploy(bench, first, folder))
    init_seconds = time.perf_counter() - start
    _, command, *words = shlex.split(proposed["next"].replace("/*.yaml", "/"))
    recipes = [str(path.relative_to(folder)) for path in (folder / "recipes").glob("*.yaml")]
    if words[0] == "recipes/":
        words[:1] = sorted(recipes)
    start = time.perf_counter()
    rows = json.loads(_yolodeploy(bench, [command, *words, "--json"], folder, may_fail=True))
    made = [row for row in rows if row["ok"]]
    return {
        "init": init_seconds,
        "deploy": time.perf_counter() - start,
        "recipes": len(proposed["recipes"]),
        "made": len(made),
        "missed": [
            f"{Path(row['recipe']).stem}: {row['error']['message']}"
            for row in rows
            if not row["ok"]
        ],
    }


def _yolodeploy(bench: Bench, words: list[str], folder: Path, *, may_fail: bool = False) -> str:
    command = [BIN / "yolodeploy", *words, "-q", "--cache", bench.work / "cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"{shlex.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _timed(bench: Bench, case: _Case) -> None:
    """`init` in a store that has not seen the model or the images, in turns with `--version`."""
    folder = bench.work / "init" / f"{case.name}-timed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(case.weights, folder / "best.pt")

    def once() -> Run:
        shutil.rmtree(folder / "recipes", ignore_errors=True)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        words = ["init", "best.pt", "--data", case.data, "-q", "--cache", folder / "cache"]
        return run([BIN / "yolodeploy", *words], folder)

    first, version = in_turns(7, once, lambda: run([BIN / "yolodeploy", "--version"], folder))
    print(
        f"{case.name}: init {median(first, 'wall'):.2f} s wall, {median(first, 'cpu'):.2f} s CPU (limit {LIMIT}); --version "
        f"{median(version, 'wall'):.2f} s; 7 runs each, in turns"
    )


def _compared(bench: Bench) -> None:
    """`compare` of ten bundles, every file of which is held against its manifest."""
    ten = sorted((bench.work / "init").glob("*/dist/*/manifest.json"))[:10]
    words = ["compare", *(file.parent for file in ten), "-q"]
    whole, version = in_turns(
        7,
        lambda: run([BIN / "yolodeploy", *words], bench.work),
        lambda: run([BIN / "yolodeploy", "--version"], bench.work),
    )
    print(
        f"compare of {len(ten)} bundles: {median(whole, 'wall'):.2f} s wall, {median(whole, 'cpu'):.2f} s CPU "
        f"(limit {LIMIT_OF_TEN}); --version {median(version, 'wall'):.2f} s; 7 runs each, in turns"
    )
