"""The report's latencies against independent clocks, and its verdicts on idle and on busy machines."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import DEVICES, ROOT, Bench
from bench.process import BIN
from bench.speed.neighbour import neighbour
from yolodeploy.hosts.timing import Request, time_apart
from yolodeploy.recipe import load_recipe
from yolodeploy.store.objects import read_meta

SIZES, ROUNDS = (160, 320, 640), 5
RUNTIMES = {"android": "ncnn", "intel": "openvino"}
DEPLOYS = 50
LAUNCHES = 10
Clock = Callable[[], float]


def clocks(bench: Bench) -> None:
    """The report's median against a plain loop, and against `benchmark_app` for OpenVINO."""
    print(
        "| runtime | threads | px | machine | report, ms | plain loop | benchmark_app | report / loop |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for target, runtime in RUNTIMES.items():
        for size in SIZES:
            folder = _built(bench, target, size)
            for threads in (1, 2):
                for busy in (False, True) if threads == 1 else (False,):
                    with neighbour(wanted=busy):
                        _row(bench, (target, runtime), size, folder, threads, busy=busy)


def _built(bench: Bench, target: str, size: int) -> Path:
    recipe = bench.recipe(target, "fp16", None)
    text = re.sub(r"imgsz: \d+", f"imgsz: {size}", recipe.read_text())
    recipe.write_text(text.replace("name: ", f"name: px{size}-"))
    command = [BIN / "yolodeploy", "build", "--allow", "/", recipe, "--json", "-q"]
    done = subprocess.run(
        [*command, "--cache", bench.work / "cache"], capture_output=True, text=True, check=True
    )
    return Path(json.loads(done.stdout)["path"])


def _row(
    bench: Bench, names: tuple[str, str], size: int, folder: Path, threads: int, *, busy: bool
) -> None:
    target, runtime = names
    tensor = bench.work / f"{size}.npy"
    np.save(tensor, np.random.default_rng(0).random((1, 3, size, size), np.float32))
    request = Request(
        runtime, DEVICES[target], None, runtime, str(folder), {}, str(tensor), threads
    )
    loop = [
        sys.executable,
        ROOT / "bench" / "speed" / "plain_loop.py",
        runtime,
        folder,
        size,
        size,
        threads,
    ]
    measured: list[Clock] = [
        lambda: time_apart(request).median_ms,
        lambda: float(_output(loop)),
    ]
    if runtime == "openvino":
        measured.append(lambda: _benchmark_app(folder, threads))
    rounds = np.array([[clock() for clock in measured] for _ in range(ROUNDS)])
    ours, plain, *others = np.median(rounds, axis=0)
    app = f"{others[0]:.2f}" if others else ""
    share = statistics.median(rounds[:, 0] / rounds[:, 1])
    machine = "busy" if busy else "idle"
    print(
        f"| {runtime} | {threads} | {size} | {machine} | {ours:.2f} | {plain:.2f} | {app} | {share:.3f} |",
        flush=True,
    )


def _output(command: list[object]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout


def _benchmark_app(folder: Path, threads: int) -> float:
    text = _output(
        [
            BIN / "benchmark_app",
            *("-m", folder / "model.xml", "-d", "CPU", "-api", "sync", "-hint", "none"),
            *("-nthreads", threads, "-t", 2, "-infer_precision", "f32"),
        ]
    )
    found = re.search(r"Median:\s+([\d.]+) ms", text)
    assert found, text
    return float(found[1])


def verdicts(bench: Bench) -> None:
    """Deploy every shipped recipe with a latency check, half of the times beside a neighbour."""
    cache = bench.work / "verdicts"
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        checks = load_recipe(recipe).recipe.checks
        if checks.latency_ratio is None and checks.speedup is None:
            continue
        for busy in (False, True):
            codes: Counter[int] = Counter()
            ratios, waits = [], []
            with neighbour(wanted=busy):
                for _ in range(DEPLOYS // 2):
                    code, report = _deploy(recipe, cache)
                    codes[code] += 1
                    ratios.append(report["evidence"]["latency_ratio"])
                    waits.append(report["conditions"]["waited"] or 0.0)
            print(
                f"{recipe.stem:<14} {'busy' if busy else 'idle'}: exit codes {dict(codes)}, ratio "
                f"{min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}, "
                f"waited {statistics.median(waits):.0%}",
                flush=True,
            )


def itself(bench: Bench) -> None:
    """Time a file against itself in a process of its own each time: no interval may exclude 1."""
    for target, runtime in RUNTIMES.items():
        folder, tensor = _built(bench, target, SIZES[0]), bench.work / "itself.npy"
        np.save(tensor, np.random.default_rng(0).random((1, 3, SIZES[0], SIZES[0]), np.float32))
        request = Request(
            runtime,
            DEVICES[target],
            None,
            runtime,
            str(folder),
            {"itself": str(folder)},
            str(tensor),
            threads=1,
            limits={"itself": [1.0]},
        )
        ratios = [time_apart(request).ratios["itself"] for _ in range(LAUNCHES)]
        wrong = sum(1 for ratio in ratios if ratio.side(1.0))
        values = sorted(ratio.value for ratio in ratios)
        print(
            f"{runtime:<9} against itself: ratio {values[0]:.3f} to {values[-1]:.3f}, "
            f"{wrong} of {LAUNCHES} intervals exclude 1",
            flush=True,
        )


def _deploy(recipe: Path, cache: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the report of a deployment that measures latency anew."""
    for meta in cache.glob("objects/??/*/meta.json"):
        known = read_meta(meta.parent)
        if known and known.format == "timings":
            shutil.rmtree(meta.parent)
    command = [BIN / "yolodeploy", "deploy", recipe, "--json", "-q", "--cache", cache]
    done = subprocess.run(
        [*map(str, command)],
        cwd=cache.parent,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    return done.returncode, found.get("report", found)


COMPRESSED = {
    ("xeon-icelake", "fp32"): ("quantize: {subset: 32}", "compress_weights"),
    ("pixel-8", "fp16"): ("w8", "quantize", "quantize, w8"),
}


def speeds(bench: Bench) -> None:
    """Latencies of every form as the report gives them: of the COCO model, and of the shipped recipes."""
    print("| recipe | size, MB | latency, ms | fp32 export, ms | latency / fp32 | speedup |")
    print("|---|---|---|---|---|---|")
    for (device, precision), forms in COMPRESSED.items():
        for number, form in enumerate(("", *forms)):
            steps = ", ".join(filter(None, [f"export: {{precision: {precision}}}", form]))
            items = ", ".join(f"{{{step}}}" if ":" in step else step for step in _split(steps))
            title = f"{device}-{number}"
            _speed(
                f"COCO, {steps}", bench.deploy(bench.compressed(title, device, f"[{items}]", 32))
            )
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        if not recipe.stem.startswith("ios"):
            code, report = _deploy(recipe, bench.work / "verdicts")
            _speed(f"{recipe.stem} (exit code {code})", report)


def _split(steps: str) -> list[str]:
    """The steps of a line such as `export: {precision: fp16}, quantize, w8`."""
    return re.findall(r"[^,{}]+(?:\{[^}]*\})?", steps)


def _speed(name: str, report: dict[str, Any]) -> None:
    evidence, size = report["evidence"], report["artifact"]["bytes"] / 1e6
    ratio = f"{evidence['latency_ratio']:.3f} ({_range(evidence['latency_ratio_interval'])})"
    speedup = f"{evidence['speedup']:.2f} ({_range(evidence['speedup_interval'])})"
    median, reference = (evidence[key]["median"] for key in ("latency_ms", "reference_ms"))
    print(
        f"| {name} | {size:.2f} | {median:.2f} | {reference:.2f} | {ratio} | {speedup} |",
        flush=True,
    )


def _range(interval: Sequence[float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
