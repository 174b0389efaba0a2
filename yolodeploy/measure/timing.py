"""Measures the latency and peak memory of artifacts in a process of its own.

    python -P -m yolodeploy.measure.timing REQUEST_AS_JSON > figures.json

A fresh process, because the peak memory and the thread pools of the build's process say nothing about the
artifact, and without the build's settings for threads, which distort latencies. The artifact is opened and run
alone first (peak memory). Then it takes turns with what it is compared with, so that a drift of the machine's
speed affects all of them. A turn is a burst, long enough to be what a camera loop of one model sees; its first runs
are not counted, because they find another model in the caches and the threads asleep.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from yolodeploy.backend import (
    Artifact,
    Backend,
    Predictor,
    Server,
    Serving,
    Target,
    batch_of,
    load_registry,
)
from yolodeploy.errors import StepFailed
from yolodeploy.measure.noise import LAUNCH, Ratio, ratio_of
from yolodeploy.measure.run_delay import RunDelay
from yolodeploy.measure.throughput import Throughput, measure_throughput
from yolodeploy.system import child_environment, cpu_name, peak_memory_mb, python_command

WARM_UP = 3  # runs
SETTLE, BURST = 0.015, 0.06  # seconds of a turn: not counted, counted
BURST_RUNS = 2  # at least
ROUNDS = (12, 24, 48, 96, 192)  # after which the figures are looked at
SECONDS = 60.0  # in all; no round begins later
DISTURBED = 0.02  # share of a run that waited; others are preferred
NARROW = 0.05  # half of the sign test's interval, relative to the ratio: precise enough


@dataclass(frozen=True)
class Request:
    """What to time: the folders of the artifact and (by name) of others, and an input tensor (.npy).

    `limits` are the ratios of the artifact's latency to that of another, by its name, at which a verdict
    turns: while one lies within the ratio's interval, measuring goes on. With `serving`, images per second are
    measured too, on so many threads, against the other that is the `reference`.
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


@dataclass(frozen=True)
class Timing:
    """Latencies in milliseconds, peak memory in megabytes (1e6 bytes), and where they were measured.

    A run takes `batch` images. A latency is the time of a run less the time for which it waited for a processor, where the system
    counts that (see `RunDelay`); of a burst only the runs that hardly waited count, if there are any. `others_ms` are the medians of what took turns with the artifact, by name and
    per image, `ratios` the artifact's latency per image relative to theirs; `runs` are the timed runs of the artifact. `waited` is the
    share of the time for which the process waited for a processor (None: not known).
    """

    median_ms: float
    p90_ms: float
    others_ms: Mapping[str, float]
    ratios: Mapping[str, Ratio]
    peak_memory_mb: float
    runs: int
    threads: int
    cpu: str
    waited: float | None
    batch: int = 1
    throughput: Throughput | None = None

    @property
    def image_ms(self) -> float:
        """The median per image."""
        return round(self.median_ms / self.batch, 4)


def time_apart(request: Request) -> Timing:
    """Time in a fresh process; raises StepFailed with the reason if that fails."""
    done = subprocess.run(
        python_command("yolodeploy.measure.timing", json.dumps(asdict(request))),
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
    return TypeAdapter(Timing).validate_python(figures)


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
    _warm_up(artifact, tensor)
    peak = peak_memory_mb()
    others = [_open(request, folder) for folder in request.others.values()]
    for other in others:
        _warm_up(other, tensor)
    with RunDelay(request.threads) as delay:
        times = _take_turns(request, [artifact, *others], _Clock(tensor, delay))
    runs = [[run for burst in bursts for run in burst.clean or burst.every] for bursts in times]
    batch, (median, *medians) = batch_of(artifact), map(statistics.median, runs)
    return Timing(
        median_ms=round(median * batch, 4),
        p90_ms=round(statistics.quantiles(runs[0], n=10)[-1] * batch, 4),
        others_ms={name: round(ms, 4) for name, ms in zip(request.others, medians, strict=True)},
        ratios=_ratios(request, times),
        peak_memory_mb=round(peak, 1),
        runs=len(runs[0]),
        threads=request.threads,
        cpu=cpu_name(),
        waited=delay.share,
        batch=batch,
        throughput=_throughput(request, tensor) if request.serving else None,
    )


def _open(request: Request, folder: str) -> Predictor:
    backend, artifact, target = _named(request, folder)
    return backend.open(artifact, target, request.threads)


def _named(request: Request, folder: str) -> tuple[Backend, Artifact, Target]:
    registry = load_registry()
    target = Target(registry.devices()[request.device], request.os_version)
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


def _warm_up(predictor: Predictor, tensor: Any) -> None:
    images = _full(predictor, tensor)
    for _ in range(WARM_UP):
        predictor(images)


def _full(predictor: Predictor, tensor: Any) -> Any:
    """A full batch for a predictor, of copies of one image."""
    batch = batch_of(predictor)
    return tensor if batch == 1 else tensor.repeat(batch, 0)


class Burst(NamedTuple):
    """Milliseconds per image of the runs of a burst: of all, and of those that hardly waited for a processor."""

    every: list[float]
    clean: list[float]


@dataclass(frozen=True)
class _Clock:
    """Times a predictor on copies of one image."""

    tensor: Any
    delay: RunDelay

    def burst(self, predictor: Predictor) -> Burst:
        """Milliseconds of runs in a row, after some that wake caches and threads."""
        images = _full(predictor, self.tensor)
        end = time.perf_counter() + SETTLE
        predictor(images)
        while time.perf_counter() < end:
            predictor(images)
        self.delay.notice_threads()
        runs: list[tuple[float, bool]] = []
        end = time.perf_counter() + BURST
        while len(runs) < BURST_RUNS or time.perf_counter() < end:
            runs.append(self._run(predictor, images))
        clean = [run for run, disturbed in runs if not disturbed]
        return Burst([run for run, _ in runs], clean)

    def _run(self, predictor: Predictor, images: Any) -> tuple[float, bool]:
        """Milliseconds per image of a run less its wait, and whether it had to wait: then its caches are cold, too."""
        before, start = self.delay.seconds(), time.perf_counter()
        predictor(images)
        passed = time.perf_counter() - start
        waited = max(self.delay.seconds() - before, 0.0)
        return max(passed - waited, 1e-9) * 1e3 / batch_of(predictor), waited > DISTURBED * passed


def _take_turns(
    request: Request, predictors: Sequence[Predictor], clock: _Clock
) -> list[list[Burst]]:
    """The bursts of every predictor; each is first, second, ... equally often."""
    times: list[list[Burst]] = [[] for _ in predictors]
    end = time.monotonic() + SECONDS
    for number in range(ROUNDS[-1]):
        if number in ROUNDS and _precise(request, _ratios(request, times), number):
            break
        if number >= ROUNDS[0] and time.monotonic() >= end:
            break
        for which in _order(number, len(predictors)):
            times[which].append(clock.burst(predictors[which]))
    return times


def _precise(request: Request, ratios: Mapping[str, Ratio], rounds: int) -> bool:
    """Whether more pairs would turn no verdict, and the ratios are narrow enough or were looked at twice."""
    decided = all(
        ratio.side(limit) or (ratio.hopeless(limit) and rounds > ROUNDS[0])
        for name, ratio in ratios.items()
        for limit in request.limits.get(name, ())
    )
    wide = (LAUNCH * (1 + NARROW)) ** 2
    narrow = all(ratio.high <= wide * ratio.low for ratio in ratios.values())
    return decided and (narrow or rounds > ROUNDS[0])


def _ratios(request: Request, times: Sequence[list[Burst]]) -> dict[str, Ratio]:
    first, *others = times
    pairs = zip(request.others, others, strict=True)
    return {name: ratio_of(*_paired(first, other)) for name, other in pairs}


def _paired(ours: Sequence[Burst], theirs: Sequence[Burst]) -> tuple[list[float], list[float]]:
    """The medians of bursts that were measured one after the other: of clean runs where both have some.

    Else a long run, which seldom stays undisturbed, would be compared with short ones that do.
    """
    medians: tuple[list[float], list[float]] = ([], [])
    for pair in zip(ours, theirs, strict=True):
        clean = all(burst.clean for burst in pair)
        for found, burst in zip(medians, pair, strict=True):
            found.append(statistics.median(burst.clean if clean else burst.every))
    return medians


def _order(number: int, count: int) -> list[int]:
    """The order of a round: it shifts by one place every round, and reverses every `count` rounds."""
    order = [(number + place) % count for place in range(count)]
    return order[::-1] if number // count % 2 else order


if __name__ == "__main__":
    timing = time_here(Request(**json.loads(sys.argv[1])))
    sys.stdout.write("\n" + json.dumps(asdict(timing)) + "\n")
