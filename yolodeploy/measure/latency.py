"""Latency and memory: how an artifact takes turns with what it is compared with, and what follows from it.

The figures are kept in the store under their own id, because how long they were measured depends on the limits of
the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolodeploy.backend import Runtime, Serving
from yolodeploy.errors import StepFailed
from yolodeploy.execution import Runner, as_artifact
from yolodeploy.hosts import Host, Timed
from yolodeploy.measure.results import conditions_at, is_there, remember_as, timed, timed_result
from yolodeploy.planning import Plan
from yolodeploy.store import Stored
from yolodeploy.system import Report, digest_of
from yolodeploy.tasks import Key, Measure
from yolodeploy.worker.noise import CONFIDENCE, Ratio
from yolodeploy.worker.turns import Timing

REVISION = 5
_COSTS = (
    *(Key.LATENCY, Key.LATENCY_P90, Key.PEAK_MEMORY, Key.LATENCY_RATIO),
    *(Key.SPEEDUP, Key.THROUGHPUT, Key.THROUGHPUT_RATIO),
)
_NOT_THERE = "the fp32 export that it is compared with is not in the store"
THREADS = 1  # decides the checks: stable, and what small models on phones profit from


@dataclass(frozen=True)
class Timings:
    """The timing that decides, and one on more threads where the recipe or the device asks for it.

    `folder` is where the store keeps them. There is none from a host on which nothing is timed.
    """

    timing: Timing | None = None
    more: Timing | None = None
    folder: Path = Path()


def obtain_timings(
    runner: Runner, host: Host, runtime: Runtime, batch: int, tensor: Path
) -> Timings:
    """Latencies of the artifact in its runtime on a host: from the store, or measured now on an input tensor (.npy).

    `batch` is how many images the artifact takes at once.
    """
    plan = runner.plan
    if host.untimed:
        return Timings()
    indexes = timed(plan) if runtime.timing else {plan.reference.id: plan.export - 1}
    others = {
        id_: timed_result(runner, index)
        for id_, index in indexes.items()
        if is_there(runner, index)
    }
    counts = [THREADS, *(count for count in _more_threads(plan) if count <= host.processors)]
    timed_ = Timed(
        backend=plan.backend, target=plan.target, artifact=as_artifact(runner.final()),
        others={id_: as_artifact(stored) for id_, stored in others.items()},
        tensor=str(tensor), threads=THREADS,
        limits=_limits(plan, others) if runtime.timing else {}, brief=not runtime.timing,
        serving=host.processors if runtime.timing and _serves(plan, batch, others) else 0,
        reference=plan.reference.id,
    )  # fmt: skip
    once = replace(timed_, limits={}, serving=0)

    def measure(_: Path) -> Timings:
        with runner.console.task("measure latency") as report:
            timing, more = _time(plan, host, _reporting(timed_, report, 0, counts)), None
            for number, count in enumerate(counts[1:], 1):
                again = _reporting(replace(once, threads=count), report, number, counts)
                more = _time(plan, host, again)
        return Timings(timing, more)

    digests = {id_: stored.meta.digest for id_, stored in others.items()}
    id_ = _timings_id(runner, host, timed_, digests, counts)
    timings, folder = remember_as(Timings, runner, id_, "timings", measure, views=())
    return replace(timings, folder=folder)


def _reporting(timed_: Timed, report: Report, number: int, counts: Sequence[int]) -> Timed:
    """The same, reported as one of several timings, each on so many threads."""
    text = count_of_threads(timed_.threads)
    report(number / len(counts), text)
    return replace(timed_, report=lambda done: report((number + done) / len(counts), text))


def _timings_id(
    runner: Runner, host: Host, timed_: Timed, others: Mapping[str, str], counts: Sequence[int]
) -> str:
    """Digest of everything that timings depend on; `others` are the digests of the artifacts beside ours."""
    plan = runner.plan
    return digest_of(
        {
            "revision": REVISION,
            "artifact": [plan.final.id, runner.final().meta.digest],
            "others": dict(others),
            "limits": timed_.limits,
            "threads": list(counts),
            "serving": timed_.serving,
            "imgsz": plan.imgsz.plain,
            "conditions": conditions_at(host, plan, plan.backend),
            "versions": plan.versions(),
        }
    )


def _serves(plan: Plan, batch: int, others: Mapping[str, Stored]) -> bool:
    """Whether images per second are measured: for a batch, or where the recipe checks them."""
    asked = batch > 1 or plan.file.recipe.checks.throughput_ratio is not None
    return asked and isinstance(plan.backend, Serving) and plan.reference.id in others


def _more_threads(plan: Plan) -> Iterator[int]:
    count = plan.file.recipe.target.threads or plan.target.device.threads
    if count and count != THREADS:
        yield count


def count_of_threads(count: int) -> str:
    """A number of threads in words."""
    return f"{count} thread{'s' * (count != 1)}"


def _limits(plan: Plan, others: Mapping[str, Stored]) -> dict[str, list[float]]:
    """The ratios at which the verdict of a check turns, by the id of what the artifact is compared with; "": milliseconds."""
    checks, limits = plan.file.recipe.checks, dict[str, list[float]]()
    if checks.latency_ratio and plan.reference.id != plan.final.id:
        limits.setdefault(plan.reference.id, []).append(checks.latency_ratio)
    if checks.speedup and 0 in plan.floats and plan.floats[0].id != plan.final.id:
        limits.setdefault(plan.floats[0].id, []).append(1 / checks.speedup)
    if checks.latency_ms:
        limits[""] = [checks.latency_ms]
    return {id_: found for id_, found in limits.items() if not id_ or id_ in others}


def _time(plan: Plan, host: Host, timed_: Timed) -> Timing:
    try:
        return host.time(timed_)
    except StepFailed as error:
        raise StepFailed(
            f"{plan.final.at}: timing the artifact in a process of its own failed: {error}"
        ) from None


def latency_samples(plan: Plan, timing: Timing | None) -> dict[str, list[float]]:
    """Single runs of the artifact and of its fp32 export, milliseconds per image, in the order of measuring."""
    found = timing.samples_ms if timing else {}
    names = {"artifact": "", "float": plan.reference.id}
    return {name: list(found[id_]) for name, id_ in names.items() if id_ in found}


def costs(plan: Plan, host: Host, runtime: Runtime, timings: Timings) -> Iterator[Measure]:
    """Latencies and memory; ratios only if this runtime's speed says something about the device."""
    timing = timings.timing
    if timing is None:
        yield from (Measure(key, None, None, reason=host.untimed) for key in _COSTS)
        return
    yield _latency(plan, timing)
    yield Measure(Key.LATENCY_P90, None, timing.p90_ms, higher_is_better=False)
    yield Measure(Key.PEAK_MEMORY, None, timing.peak_memory_mb, higher_is_better=False)
    silent = "" if runtime.timing else f"the speed of {runtime.name} says nothing about the device"
    yield _latency_ratio(plan, timing, silent)
    first, export = plan.floats.get(0), plan.steps[plan.export].step.name
    if silent or not first or not _compared(plan, timing, first.id):
        reason = f"`{export}` does not take the model as loaded" if not first else _NOT_THERE
        reason = silent or reason
        yield Measure(Key.SPEEDUP, None, None, reason=reason)
    else:
        speedup = _against(plan, timing, first.id).inverse()
        yield Measure(
            Key.SPEEDUP,
            None,
            speedup.value,
            interval=(speedup.low, speedup.high),
            confidence=CONFIDENCE,
        )
    yield from _served(plan, timing, silent)
    for count in _more_threads(plan):
        yield from _on_more(plan, timings.more, count, silent, host)


def _served(plan: Plan, timing: Timing, silent: str) -> Iterator[Measure]:
    """Images per second, and the ratio to those of the reference."""
    if found := timing.throughput:
        pairs = ((Key.THROUGHPUT, found.rate), (Key.THROUGHPUT_RATIO, found.ratio))
        for key, figure in pairs:
            interval = figure.low, figure.high
            source = found.reference.value if key == Key.THROUGHPUT else None
            yield Measure(key, source, figure.value, interval=interval, confidence=CONFIDENCE)
        return
    reason = silent or "not asked for: the artifact takes one image, and no check needs it"
    if not isinstance(plan.backend, Serving):
        reason = f"{plan.backend.NAME} works on one image at a time"
    for key in (Key.THROUGHPUT, Key.THROUGHPUT_RATIO):
        yield Measure(key, None, None, reason=reason)


def _on_more(
    plan: Plan, timing: Timing | None, count: int, silent: str, host: Host
) -> Iterator[Measure]:
    group = count_of_threads(count)
    if timing:
        yield replace(_latency(plan, timing), group=group)
        yield replace(_latency_ratio(plan, timing, silent), group=group)
    else:
        reason = f"{host.name or 'this machine'} has {host.processors} processors"
        yield Measure(Key.LATENCY, None, None, higher_is_better=False, group=group, reason=reason)


def _latency(plan: Plan, timing: Timing) -> Measure:
    reference = timing.others_ms.get(plan.reference.id)
    bare = Measure(Key.LATENCY, reference, timing.median_ms, higher_is_better=False)
    return replace(bare, interval=_interval(timing), confidence=CONFIDENCE)


def _interval(timing: Timing) -> tuple[float, float] | None:
    """Of the latency of a run."""
    found, batch = timing.image, timing.batch
    return (round(found.low * batch, 4), round(found.high * batch, 4)) if found else None


def _against(plan: Plan, timing: Timing, other: str) -> Ratio:
    """The artifact's latency relative to another's, by step id; it is as fast as itself."""
    return Ratio(1.0, 1.0, 1.0) if other == plan.final.id else timing.ratios[other]


def _compared(plan: Plan, timing: Timing, other: str) -> bool:
    """Whether the artifact was compared with another; where nothing is built, that may not be there."""
    return other == plan.final.id or other in timing.ratios


def _latency_ratio(plan: Plan, timing: Timing, silent: str) -> Measure:
    if silent:
        return Measure(Key.LATENCY_RATIO, None, None, higher_is_better=False, reason=silent)
    if not _compared(plan, timing, plan.reference.id):
        return Measure(Key.LATENCY_RATIO, None, None, higher_is_better=False, reason=_NOT_THERE)
    ratio = _against(plan, timing, plan.reference.id)
    interval = ratio.low, ratio.high
    bare = Measure(Key.LATENCY_RATIO, None, ratio.value, higher_is_better=False)
    return replace(bare, interval=interval, confidence=CONFIDENCE)
