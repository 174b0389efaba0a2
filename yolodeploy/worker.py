"""A process of its own that times an artifact and weighs its memory.

    python -m yolodeploy.worker REQUEST.json > figures.json

A fresh process, because the peak memory and the thread pools of the one that ran the build say
nothing about the artifact. The artifact is opened and run alone first (peak memory), then it takes
turns with what it is compared with, so that a drift of the machine's speed hits all of them. A turn
is a burst: its first run, which finds the caches full of another model's weights and code and the
threads asleep, is not counted, because a device that watches a camera runs one model again and again.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Predictor, Target
from yolodeploy.child import environment, python
from yolodeploy.errors import StepFailed
from yolodeploy.machine import cpu_name, peak_memory_mb
from yolodeploy.registry import load_registry

WARM_UP = 3
BURST = 4  # timed runs of a turn
LEAST_ROUNDS, MOST_ROUNDS = 6, 60
SECONDS = 2.0  # for each of the artifacts


@dataclass(frozen=True)
class Request:
    """What to measure: folders of the artifact and (by name) of others, and an input tensor (.npy)."""

    backend: str
    device: str
    os_version: str | None
    format: str
    artifact: str
    others: dict[str, str]
    tensor: str
    threads: int


def run_worker(file: Path) -> dict[str, Any]:
    """Start the process on a request file; raises StepFailed with the reason if it gives no figures."""
    done = subprocess.run(
        python("yolodeploy.worker", str(file)),
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StepFailed(_death(done.returncode, done.stderr))
    try:
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise StepFailed("it gave no figures") from None
    return figures


def _death(code: int, said: str) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    last = said.strip().splitlines()[-1:]
    return last[0] if code == 1 and last else f"it ended with exit code {code}"


def measure(request: Request) -> dict[str, Any]:
    """Latencies in milliseconds, peak memory in megabytes."""
    import numpy as np

    tensor = np.load(request.tensor)
    artifact = _open(request, request.artifact)
    for _ in range(WARM_UP):
        artifact(tensor)
    peak = peak_memory_mb()
    others = [_open(request, folder) for folder in request.others.values()]
    for other in others:
        for _ in range(WARM_UP):
            other(tensor)
    times = _take_turns([artifact, *others], tensor)
    medians = [round(statistics.median(values), 4) for values in times]
    return {
        "latency_ms": {
            "median": medians[0],
            "p90": round(statistics.quantiles(times[0], n=10)[-1], 4),
        },
        "timed_ms": dict(zip(request.others, medians[1:], strict=True)),
        "peak_memory_mb": round(peak, 1),
        "runs": len(times[0]),
        "threads": request.threads,
        "cpu": cpu_name(),
    }


def _open(request: Request, folder: str) -> Predictor:
    registry = load_registry()
    target = Target(registry.devices()[request.device], request.os_version)
    artifact = Artifact(request.format, Path(folder), "")
    return registry.backends[request.backend].open(artifact, target, request.threads)


def _take_turns(predictors: Sequence[Predictor], tensor: Any) -> list[list[float]]:
    """Milliseconds of every run, by predictor; each comes first, second, ... equally often."""
    times: list[list[float]] = [[] for _ in predictors]
    end = time.monotonic() + SECONDS * len(predictors)
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() >= end:
            break
        for which in _order(number, len(predictors)):
            times[which] += _burst(predictors[which], tensor)
    return times


def _burst(predictor: Predictor, tensor: Any) -> list[float]:
    """Milliseconds of runs in a row, after one that wakes caches and threads."""
    predictor(tensor)
    times = []
    for _ in range(BURST):
        start = time.perf_counter()
        predictor(tensor)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _order(number: int, count: int) -> list[int]:
    """Who runs when in a round: everybody moves up one place, and every `count` rounds turns back."""
    order = [(number + place) % count for place in range(count)]
    return order[::-1] if number // count % 2 else order


if __name__ == "__main__":
    wanted = Request(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write("\n" + json.dumps(measure(wanted)) + "\n")
