"""A process of its own that times an artifact and weighs its memory.

    python -m yolodeploy.worker REQUEST.json > figures.json

A fresh process, because the peak memory and the thread pools of the one that ran the build say
nothing about the artifact. The artifact is opened and run alone first (peak memory), then
artifact and reference take turns, so that a drift of the machine's speed hits both.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Predictor, Target
from yolodeploy.errors import StepFailed
from yolodeploy.machine import cpu_name, peak_memory_mb
from yolodeploy.registry import load_registry

WARM_UP = 3
LEAST_ROUNDS, MOST_ROUNDS = 15, 200
SECONDS = 4.0


@dataclass(frozen=True)
class Request:
    """What to measure: folders of the artifact and its reference, and an input tensor (.npy)."""

    backend: str
    device: str
    os_version: str | None
    format: str
    artifact: str
    reference: str
    tensor: str
    threads: int


def run_worker(file: Path) -> dict[str, Any]:
    """Start the process on a request file; raises StepFailed with the reason if it gives no figures."""
    command = [sys.executable, "-m", "yolodeploy.worker", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
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
    reference = _open(request, request.reference)
    for _ in range(WARM_UP):
        reference(tensor)
    times = _take_turns(artifact, reference, tensor)
    ours, theirs = (statistics.median(values) for values in times)
    return {
        "latency_ms": {
            "median": round(ours, 3),
            "p90": round(statistics.quantiles(times[0], n=10)[-1], 3),
        },
        "reference_ms": {"median": round(theirs, 3)},
        "latency_ratio": round(ours / theirs, 4),
        "peak_memory_mb": round(peak, 1),
        "rounds": len(times[0]),
        "threads": request.threads,
        "cpu": cpu_name(),
    }


def _open(request: Request, folder: str) -> Predictor:
    registry = load_registry()
    target = Target(registry.devices()[request.device], request.os_version)
    artifact = Artifact(request.format, Path(folder), "")
    return registry.backends[request.backend].open(artifact, target, request.threads)


def _take_turns(
    first: Predictor, second: Predictor, tensor: Any
) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + SECONDS
    while len(times[0]) < LEAST_ROUNDS or (time.monotonic() < end and len(times[0]) < MOST_ROUNDS):
        order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
        for which in order:
            start = time.perf_counter()
            (first, second)[which](tensor)
            times[which].append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    wanted = Request(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write("\n" + json.dumps(measure(wanted)) + "\n")
