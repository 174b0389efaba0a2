"""Times a model in turns with what it is compared with, so that a drift of the machine's speed affects all of them.

A turn is a burst, long enough to be what a camera loop of one model sees; its first runs are not counted, because they
find another model in the caches and the threads asleep. The model is run alone first (peak memory).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from yolodeploy.worker.machine import climate, cpu_name, peak_memory_mb
from yolodeploy.worker.noise import LAUNCH, Ratio, latency_of, ratio_of
from yolodeploy.worker.run_delay import RunDelay
from yolodeploy.worker.throughput import Throughput

WARM_UP = 3  # runs
SETTLE, BURST = 0.015, 0.06  # seconds of a turn: not counted, counted
BURST_RUNS = 2  # at least
ROUNDS = (12, 16, 24, 48, 96, 192)  # after which the figures are looked at
SECONDS = 60.0  # in all; no round begins later
BRIEF = 2  # rounds, where the speed says nothing about the device
DISTURBED = 0.02  # share of a run that waited; others are preferred
SAMPLES = 200  # runs of each model that are kept one by one
NARROW = 0.05  # half of the sign test's interval, relative to the ratio: precise enough


class Model(Protocol):
    """Takes `[N, channels, H, W]` images; an attribute `batch` says how many at a time, 1 if it is missing."""

    def __call__(self, images: Any) -> Any:
        """Run the images."""


@dataclass(frozen=True)
class Timing:
    """Latencies in milliseconds, peak memory in megabytes (1e6 bytes), and where they were measured.

    A run takes `batch` images. A latency is the time of a run less the time for which it waited for a processor, where the system
    counts that (see `RunDelay`); of a burst only the runs that hardly waited count, if there are any. `others_ms` are the medians of what took turns with the artifact, by name and
    per image, `ratios` the artifact's latency per image relative to theirs; `runs` are the timed runs of the artifact. `waited` is the
    share of the time for which the process waited for a processor (None: not known). `climate` is what slows the machine down, before
    and after (see `machine.climate`). `image` is the latency per image from the medians of the bursts, with its interval.
    `samples_ms` are single runs in the order in which they were measured, per image, those of the artifact by the name "": at most
    `SAMPLES` of each, evenly spread over all that count.
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
    climate: Mapping[str, Any] = field(default_factory=dict)
    image: Ratio | None = None
    samples_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def image_ms(self) -> float:
        """The median per image."""
        return round(self.median_ms / self.batch, 4)


def time_in_turns(
    opened: Callable[[], Model],
    others: Mapping[str, Callable[[], Model]],
    tensor: Any,
    threads: int,
    limits: Mapping[str, Sequence[float]],
    tell: Callable[[float], None] | None = None,
    *,
    brief: bool = False,
) -> Timing:
    """Open an artifact, then others by name, and time them on copies of one image `[1, channels, H, W]`.

    `limits` are the ratios of the artifact's latency to that of another, by its name, at which a verdict turns: while
    one lies within the ratio's interval, measuring goes on. Those by the name "" are of the artifact's latency itself, in
    milliseconds per image. `tell` is told the share of the longest time that has passed. With `brief` it ends after two rounds.
    """
    before = climate()
    artifact = opened()
    _warm_up(artifact, tensor)
    peak = peak_memory_mb()
    models = [artifact, *(other() for other in others.values())]
    for model in models[1:]:
        _warm_up(model, tensor)
    names = list(others)
    with RunDelay(threads) as delay:
        last = BRIEF if brief else ROUNDS[-1]
        times = _take_turns(names, limits, models, _Clock(tensor, delay), tell, last)
    return replace(
        figures(names, times, batch_of(artifact)),
        peak_memory_mb=round(peak, 1),
        threads=threads,
        cpu=cpu_name(),
        waited=delay.share,
        climate={"before": before, "after": climate()},
    )


def figures(names: Sequence[str], times: Sequence[Sequence[Burst]], batch: int = 1) -> Timing:
    """What bursts tell: of the artifact, then of the others by these names, in the order of the rounds.

    What they do not tell (memory, threads, processor, climate) is left empty.
    """
    runs = [[run for burst in bursts for run in burst.clean or burst.every] for bursts in times]
    medians = [statistics.median(each) for each in runs]
    return Timing(
        median_ms=round(medians[0] * batch, 4),
        p90_ms=round(statistics.quantiles(runs[0], n=10)[-1] * batch, 4),
        others_ms={name: round(ms, 4) for name, ms in zip(names, medians[1:])},
        ratios=_ratios(names, times),
        peak_memory_mb=0.0,
        runs=len(runs[0]),
        threads=0,
        cpu="",
        waited=None,
        batch=batch,
        image=_latency(times[0]),
        samples_ms={name: _sample(each) for name, each in zip(["", *names], runs)},
    )


def _sample(runs: Sequence[float]) -> list[float]:
    count = min(SAMPLES, len(runs))
    return [round(runs[place * len(runs) // count], 4) for place in range(count)]


def batch_of(model: object) -> int:
    """How many images a model wants at a time."""
    return int(getattr(model, "batch", 1))


def _warm_up(model: Model, tensor: Any) -> None:
    images = _full(model, tensor)
    for _ in range(WARM_UP):
        model(images)


def _full(model: Model, tensor: Any) -> Any:
    """A full batch for a model, of copies of one image."""
    batch = batch_of(model)
    return tensor if batch == 1 else tensor.repeat(batch, 0)


class Burst(NamedTuple):
    """Milliseconds per image of the runs of a burst: of all, and of those that hardly waited for a processor."""

    every: list[float]
    clean: list[float]


@dataclass(frozen=True)
class _Clock:
    """Times a model on copies of one image."""

    tensor: Any
    delay: RunDelay

    def burst(self, model: Model) -> Burst:
        """Milliseconds of runs in a row, after some that wake caches and threads."""
        images = _full(model, self.tensor)
        end = time.perf_counter() + SETTLE
        model(images)
        while time.perf_counter() < end:
            model(images)
        self.delay.notice_threads()
        runs: list[tuple[float, bool]] = []
        end = time.perf_counter() + BURST
        while len(runs) < BURST_RUNS or time.perf_counter() < end:
            runs.append(self._run(model, images))
        clean = [run for run, disturbed in runs if not disturbed]
        return Burst([run for run, _ in runs], clean)

    def _run(self, model: Model, images: Any) -> tuple[float, bool]:
        """Milliseconds per image of a run less its wait, and whether it had to wait: then its caches are cold, too."""
        began, before, start = time.perf_counter(), self.delay.seconds(), time.perf_counter()
        model(images)
        end, after, ended = time.perf_counter(), self.delay.seconds(), time.perf_counter()
        waited = max(after - before, 0.0)
        passed = ended - began if waited else end - start  # a wait may lie beside the run
        disturbed = waited > DISTURBED * passed
        # Threads of a runtime that wait at the same time may have waited for longer than the run took.
        took = passed - waited if waited < passed else passed
        return took * 1e3 / batch_of(model), disturbed


def _take_turns(
    names: Sequence[str],
    limits: Mapping[str, Sequence[float]],
    models: Sequence[Model],
    clock: _Clock,
    tell: Callable[[float], None] | None = None,
    last: int = ROUNDS[-1],
) -> list[list[Burst]]:
    """The bursts of every model in at most `last` rounds; each is first, second, ... equally often."""
    times: list[list[Burst]] = [[] for _ in models]
    end = time.monotonic() + SECONDS
    for number in range(last):
        if number in ROUNDS and precise(names, limits, times):
            break
        if number >= ROUNDS[0] and time.monotonic() >= end:
            break
        if tell:
            tell(round(1 - max(end - time.monotonic(), 0) / SECONDS, 3))
        for which in _order(number, len(models)):
            times[which].append(clock.burst(models[which]))
    return times


def precise(
    names: Sequence[str], limits: Mapping[str, Sequence[float]], times: Sequence[Sequence[Burst]]
) -> bool:
    """Whether more rounds would turn no verdict, and the ratios are narrow enough or were looked at twice.

    `times` are the bursts of the artifact, then of the others by these names.
    """
    ratios = {**_ratios(names, times), "": _latency(times[0])}
    rounds = len(times[0])
    decided = all(
        ratio.side(limit) or (ratio.hopeless(limit) and rounds > ROUNDS[0])
        for name, ratio in ratios.items()
        for limit in limits.get(name, ())
    )
    wide = (LAUNCH * (1 + NARROW)) ** 2
    narrow = all(ratio.high <= wide * ratio.low for name, ratio in ratios.items() if name)
    return decided and (narrow or rounds > ROUNDS[0])


def _ratios(names: Sequence[str], times: Sequence[Sequence[Burst]]) -> dict[str, Ratio]:
    first, *others = times
    return {name: ratio_of(*_paired(first, other)) for name, other in zip(names, others)}


def _latency(bursts: Sequence[Burst]) -> Ratio:
    """The latency per image, from the medians of bursts: of clean runs where a burst has some."""
    return latency_of([statistics.median(burst.clean or burst.every) for burst in bursts])


def _paired(ours: Sequence[Burst], theirs: Sequence[Burst]) -> tuple[list[float], list[float]]:
    """The medians of bursts that were measured one after the other: of clean runs where both have some.

    Else a long run, which seldom stays undisturbed, would be compared with short ones that do.
    """
    medians: tuple[list[float], list[float]] = ([], [])
    for pair in zip(ours, theirs):
        clean = all(burst.clean for burst in pair)
        for found, burst in zip(medians, pair):
            found.append(statistics.median(burst.clean if clean else burst.every))
    return medians


def _order(number: int, count: int) -> list[int]:
    """The order of a round: it shifts by one place every round, and reverses every `count` rounds."""
    order = [(number + place) % count for place in range(count)]
    return order[::-1] if number // count % 2 else order
