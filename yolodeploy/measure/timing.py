"""Measures the latency and peak memory of artifacts in a process of its own.

    python -P -m yolodeploy.measure.timing REQUEST_AS_JSON > figures.json

A fresh process, because the peak memory and the thread pools of the build's process say nothing about the
artifact. The artifact is opened and run alone first (peak memory). Then it takes turns with what it is compared
with, so that a drift of the machine's speed affects all of them. A turn is a burst, whose first run is not
counted: it finds another model in the caches and the threads asleep, but a device runs one model again and again.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Predictor, Target, load_registry
from yolodeploy.errors import StepFailed
from yolodeploy.system import child_environment, cpu_name, peak_memory_mb, python_command

WARM_UP = 3
BURST = 4  # timed runs of a turn
MIN_ROUNDS, MAX_ROUNDS = 6, 60
SECONDS = 2.0  # for each artifact


@dataclass(frozen=True)
class Request:
    """What to time: the folders of the artifact and (by name) of others, and an input tensor (.npy)."""

    backend: str
    device: str
    os_version: str | None
    format: str
    artifact: str
    others: Mapping[str, str]
    tensor: str
    threads: int


@dataclass(frozen=True)
class Timing:
    """Latencies in milliseconds, peak memory in megabytes (1e6 bytes), and where they were measured.

    `others_ms` are the medians of what took turns with the artifact, by name; `runs` are the timed runs of each.
    """

    median_ms: float
    p90_ms: float
    others_ms: Mapping[str, float]
    peak_memory_mb: float
    runs: int
    threads: int
    cpu: str


def time_apart(request: Request) -> Timing:
    """Time in a fresh process; raises StepFailed with the reason if that fails."""
    done = subprocess.run(
        python_command("yolodeploy.measure.timing", json.dumps(asdict(request))),
        env=child_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StepFailed(_failure(done.returncode, done.stderr))
    try:
        return Timing(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        raise StepFailed("it printed no figures") from None


def _failure(code: int, messages: str) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    last = messages.strip().splitlines()[-1:]
    return last[0] if code == 1 and last else f"it ended with exit code {code}"


def time_here(request: Request) -> Timing:
    """Time in this process."""
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
    median, *medians = (round(statistics.median(values), 4) for values in times)
    return Timing(
        median_ms=median,
        p90_ms=round(statistics.quantiles(times[0], n=10)[-1], 4),
        others_ms=dict(zip(request.others, medians, strict=True)),
        peak_memory_mb=round(peak, 1),
        runs=len(times[0]),
        threads=request.threads,
        cpu=cpu_name(),
    )


def _open(request: Request, folder: str) -> Predictor:
    registry = load_registry()
    target = Target(registry.devices()[request.device], request.os_version)
    artifact = Artifact(request.format, Path(folder), "")
    return registry.backends[request.backend].open(artifact, target, request.threads)


def _take_turns(predictors: Sequence[Predictor], tensor: Any) -> list[list[float]]:
    """Milliseconds of every run, by predictor; each is first, second, ... equally often."""
    times: list[list[float]] = [[] for _ in predictors]
    end = time.monotonic() + SECONDS * len(predictors)
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and time.monotonic() >= end:
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
    """The order of a round: it shifts by one place every round, and reverses every `count` rounds."""
    order = [(number + place) % count for place in range(count)]
    return order[::-1] if number // count % 2 else order


if __name__ == "__main__":
    timing = time_here(Request(**json.loads(sys.argv[1])))
    sys.stdout.write("\n" + json.dumps(asdict(timing)) + "\n")
