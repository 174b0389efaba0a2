"""Measures the latency and peak memory of artifacts in a process of its own.

    python -P -m yolodeploy.hosts.timing REQUEST_AS_JSON > figures.json

A fresh process, because the peak memory and the thread pools of the build's process say nothing about the
artifact, and without the build's settings for threads, which distort latencies. How it is timed is written in
`worker.turns`, and is the same on every host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from yolodeploy.backend import (
    Artifact,
    Backend,
    Predictor,
    Server,
    Serving,
    Target,
    load_registry,
)
from yolodeploy.errors import StepFailed
from yolodeploy.system import adapter, child_environment, end_with_parent, python_command
from yolodeploy.worker.throughput import Throughput, measure_throughput
from yolodeploy.worker.turns import Timing, time_in_turns


@dataclass(frozen=True)
class Request:
    """What to time: the folders of the artifact and (by name) of others, and an input tensor (.npy).

    `limits` are the ratios of the artifact's latency to that of another, by its name, at which a verdict
    turns: while one lies within the ratio's interval, measuring goes on; those by the name "" are of the latency itself, in
    milliseconds per image. With `serving`, images per second are
    measured too, on so many threads, against the other that is the `reference`. `brief`: see `time_in_turns`.
    """

    backend: str
    device: str
    os_version: str | None
    format: str
    artifact: str
    others: Mapping[str, str]
    tensor: str
    threads: int
    limits: Mapping[str, Sequence[float]] = field(default_factory=dict)
    serving: int = 0
    reference: str = ""
    gpu: str | None = None
    brief: bool = False


def time_apart(request: Request) -> Timing:
    """Time in a fresh process; raises StepFailed with the reason if that fails."""
    done = subprocess.run(
        python_command("yolodeploy.hosts.timing", json.dumps(asdict(request))),
        env=child_environment(own_threading=True),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StepFailed(_failure(done.returncode, done.stderr))
    try:
        return _timing(json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError):  # pydantic's errors among them
        raise StepFailed("it printed no figures") from None


def _timing(figures: dict[str, Any]) -> Timing:
    return adapter(Timing).validate_python(figures)


def _failure(code: int, messages: str) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    last = messages.strip().splitlines()[-1:]
    return last[0] if code == 1 and last else f"it ended with exit code {code}"


def time_here(request: Request) -> Timing:
    """Time in this process."""
    import numpy as np

    tensor = np.load(request.tensor)
    others = {name: partial(_open, request, folder) for name, folder in request.others.items()}
    opened = partial(_open, request, request.artifact)
    timing = time_in_turns(
        opened, others, tensor, request.threads, request.limits, brief=request.brief
    )
    return replace(timing, throughput=_throughput(request, tensor)) if request.serving else timing


def _open(request: Request, folder: str) -> Predictor:
    backend, artifact, target = _named(request, folder)
    return backend.open(artifact, target, request.threads)


def _named(request: Request, folder: str) -> tuple[Backend, Artifact, Target]:
    registry = load_registry()
    target = Target(registry.devices()[request.device], request.os_version, request.gpu)
    return registry.backends[request.backend], Artifact(request.format, Path(folder), ""), target


def _throughput(request: Request, tensor: Any) -> Throughput:
    """Images per second of the artifact and its reference; both are opened again for that."""
    ours = _serve(request, request.artifact)
    theirs = _serve(request, request.others[request.reference])
    return measure_throughput(ours, theirs, tensor, request.serving)


def _serve(request: Request, folder: str) -> Server:
    backend, artifact, target = _named(request, folder)
    assert isinstance(backend, Serving)  # noqa: S101 - others are not asked
    return backend.serve(artifact, target, request.serving)


if __name__ == "__main__":
    end_with_parent(os.getppid())
    timing = time_here(Request(**json.loads(sys.argv[1])))
    sys.stdout.write("\n" + json.dumps(asdict(timing)) + "\n")
