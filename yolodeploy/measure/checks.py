"""Compares what was measured with the recipe's checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from yolodeploy.measure.breakdown import BLIND, Row
from yolodeploy.measure.evidence import Evidence
from yolodeploy.recipe import Checks
from yolodeploy.tasks import Key, Measure, grouped, one, six_digits
from yolodeploy.worker.noise import images_needed, side

Interval = tuple[float, float]


class Verdict(StrEnum):
    """How a check ended; UNDECIDED if noise could turn it over."""

    OK = "ok"
    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class _Value:
    """A measured value, or None and the reason (`note`); and the interval that contains it, if one is known.

    `decides` means that the whole interval must lie on one side of the limit.
    """

    value: float | None
    note: str = ""
    interval: Interval | None = None
    decides: bool = False


@dataclass(frozen=True)
class Check:
    """One check: the limit, the measured value (None: not measured, see `note`), the verdict.

    `least` means that the limit is the smallest value allowed, not the largest. `interval` contains the value; `doubt`
    says what would tell more where it straddles the limit.
    """

    name: str
    limit: float
    value: float | None
    verdict: Verdict
    note: str = ""
    least: bool = False
    interval: Interval | None = None
    doubt: str = ""

    @property
    def ok(self) -> bool:
        """Whether the check passed."""
        return self.verdict == Verdict.OK

    @property
    def timed(self) -> bool:
        """Whether it is a check of a latency."""
        return self.name in TIMED

    def failure(self) -> str:
        """A check that did not pass, in a sentence or two, and what to try."""
        if self.value is None:
            return f"{self.name}: not measured ({self.note}), so the check cannot pass. Remove it or provide the data."
        subject = f"{self.name} ({self.note})" if self.note else self.name
        if self.verdict == Verdict.UNDECIDED:
            return f"{subject}: {self.in_doubt()}"
        distance = number(abs(self.value - self.limit))
        side = "below" if self.least else "over"
        return (
            f"{subject}: {number(self.value)} is {distance} {side} the limit of "
            f"{number(self.limit)}. {_KINDS[self.name.partition('.')[0]].remedy}"
        )

    def in_doubt(self) -> str:
        """Why noise could turn the verdict over, and what would tell more."""
        if self.interval is None:
            return f"{number(self.value)} was measured, on too few images for an interval. {self.doubt}"
        low, high = self.interval
        return (
            f"{number(self.value)} was measured, but it may be anything from {number(low)} to {number(high)}, "
            f"and the limit is {number(self.limit)}. {self.doubt}"
        )


@dataclass(frozen=True)
class _Kind:
    """How a check finds its value, and what to do if it fails."""

    remedy: str
    value: Callable[[Evidence, Checks], _Value] | None = None  # None: from the breakdown
    least: bool = False


def _primary_drop(evidence: Evidence, wanted: Checks) -> _Value:
    """The drop of the primary measure, unless the source model finds nothing and so has nothing to lose."""
    measure = evidence.primary
    if measure.source == 0:
        return _Value(None, BLIND)
    return _drop(measure, measure.reason, wanted)


def _worst_class(evidence: Evidence, wanted: Checks) -> _Value:
    """The largest drop among the classes that the source model finds."""
    labelled = [m for m in grouped(evidence.measures, Key.CLASS_AP) if m.loss is not None]
    found = [measure for measure in labelled if measure.source]
    if not found:
        return _Value(None, BLIND if labelled else "no class has labels")
    worst = max(found, key=lambda measure: _badness(measure, wanted))
    return _drop(worst, f"class `{worst.group}`", wanted)


def _badness(measure: Measure, wanted: Checks) -> tuple[float, float]:
    """What decides which class is the worst: the drop, or where its interval lies if that decides."""
    loss, limit = measure.loss or 0.0, wanted.class_ap_drop or 0.0
    if wanted.confidence is None:
        return loss, 0.0
    low, high = measure.interval or (-math.inf, math.inf)
    return side((low, high, loss), limit), low if low > limit else high


def _drop(measure: Measure, note: str, wanted: Checks) -> _Value:
    return _Value(measure.loss, note, measure.interval, decides=wanted.confidence is not None)


def _score(key: Key) -> Callable[[Evidence, Checks], _Value]:
    def value(evidence: Evidence, _: Checks) -> _Value:
        measure = one(evidence.measures, key)
        return _Value(six_digits(measure.artifact), measure.reason)

    return value


def _latency(evidence: Evidence, _: Checks) -> _Value:
    """The latency per image on the target itself; that of another machine says nothing about it."""
    if not evidence.place.on_device:
        return _Value(None, _not_there(evidence))
    timing = evidence.timing
    if timing is None:
        return _Value(None, one(evidence.measures, Key.LATENCY).reason)
    interval = (timing.image.low, timing.image.high) if timing.image else None
    note = f"per image, on {timing.cpu}"
    return _Value(timing.image_ms, note, interval, decides=True)


def _not_there(evidence: Evidence) -> str:
    return f"on {evidence.place.words()}"


def _timed(key: Key) -> Callable[[Evidence, Checks], _Value]:
    def value(evidence: Evidence, _: Checks) -> _Value:
        measure = one(evidence.measures, key)
        note = measure.reason or f"on {evidence.timing and evidence.timing.cpu}"
        return _Value(measure.artifact, note, measure.interval, decides=True)

    return value


TIMED = {"latency_ms", "latency_ratio", "speedup", "throughput_ratio"}
_NOT_LIMITS = {"step_drop", "confidence", "on_device"}
_ANYWHERE = {"size_mb"}  # the same wherever it is measured
_LAYERS = "Compress less, or keep the sensitive layers in floating point; or allow a"
_KINDS: Mapping[str, _Kind] = {
    "size_mb": _Kind(
        "Store weights in fp16, or compress further; or raise the limit.",
        lambda evidence, _: _Value(round(evidence.artifact.bytes / 1e6, 6)),
    ),
    "map_drop": _Kind(f"{_LAYERS} larger drop.", _primary_drop),
    "top1_drop": _Kind(f"{_LAYERS} larger drop.", _primary_drop),
    "class_ap_drop": _Kind(
        "Compress less, or measure on more images of that class; or allow a larger drop.",
        _worst_class,
    ),
    "fidelity": _Kind(f"{_LAYERS} lower fidelity.", _score(Key.FIDELITY), least=True),
    "latency_ms": _Kind(
        "Compress more, choose a smaller `imgsz` or model, or a form that this processor computes faster; or raise the limit.",
        _latency,
    ),
    "latency_ratio": _Kind(
        "This form is not faster on this processor: choose another, or raise the limit.",
        _timed(Key.LATENCY_RATIO),
    ),
    "speedup": _Kind(
        "Prune more, or choose a form that this processor computes faster; or lower the limit.",
        _timed(Key.SPEEDUP),
        least=True,
    ),
    "throughput_ratio": _Kind(
        "A processor that is busy with single images gains nothing from a batch: try another `batch`, a form that it "
        "computes faster, or a GPU; or lower the limit.",
        _timed(Key.THROUGHPUT_RATIO),
        least=True,
    ),
    "output_diff": _Kind(
        "Export with `precision: fp32`, or allow a larger difference.", _score(Key.OUTPUT_DIFF)
    ),
    "step_drop": _Kind("Let the step train longer, cut or compress less; or allow a larger drop."),
}


def read_checks(rows: Iterable[Mapping[str, Any]]) -> tuple[Check, ...]:
    """Checks from plain data, as reports have them."""
    known = {each.name for each in fields(Check)}
    found = []
    for row in rows:
        values = {name: value for name, value in row.items() if name in known}
        interval = tuple(row["interval"]) if row.get("interval") else None
        found.append(Check(**{**values, "verdict": Verdict(row["verdict"]), "interval": interval}))
    return tuple(found)


def run_checks(wanted: Checks, evidence: Evidence, breakdown: Sequence[Row]) -> tuple[Check, ...]:
    """Make every check of the recipe. A step that the recipe names twice is checked twice."""
    return tuple(_checks(wanted, evidence, breakdown))


def _checks(wanted: Checks, evidence: Evidence, breakdown: Sequence[Row]) -> Iterator[Check]:
    limits: dict[str, float] = wanted.model_dump(exclude_none=True, exclude=_NOT_LIMITS)
    for name, limit in limits.items():
        if value := _KINDS[name].value:
            yield _check(
                name, limit, _demanded(name, value(evidence, wanted), wanted, evidence), evidence
            )
    for row in breakdown:
        if row.step in (limits := wanted.step_drop or {}):
            note = f"{row.reasons['drop']}; {row.at}" if row.drop is None else row.at
            found = _demanded("step_drop", _Value(row.drop, note), wanted, evidence)
            yield _check(f"step_drop.{row.step}", limits[row.step], found, evidence)


def _demanded(name: str, found: _Value, wanted: Checks, evidence: Evidence) -> _Value:
    """A value, unless the recipe wants it from the device and it is from elsewhere."""
    if not wanted.on_device or evidence.place.on_device or name in _ANYWHERE:
        return found
    return _Value(None, _not_there(evidence))


def _check(name: str, limit: float, found: _Value, evidence: Evidence) -> Check:
    least = _KINDS[name.partition(".")[0]].least
    check = Check(name, limit, found.value, Verdict.FAILED, found.note, least, found.interval)
    if found.value is None:
        return check
    passed = found.value >= limit if least else found.value <= limit
    verdict, doubt = Verdict.OK if passed else Verdict.FAILED, ""
    # A value outside its interval, which resampling may give, cannot be judged by it.
    where = side((*(found.interval or (-math.inf, math.inf)), found.value), limit)
    if found.decides and not where:
        verdict = Verdict.UNDECIDED
    if not where and (found.interval or found.decides):
        doubt = _doubt(check, found.value, found.interval, evidence)
    return replace(check, verdict=verdict, doubt=doubt)


def _doubt(check: Check, value: float, interval: Interval | None, evidence: Evidence) -> str:
    """What would tell on which side of its limit a value lies."""
    if check.timed:
        timing = evidence.timing
        served = timing.throughput if timing and check.name == "throughput_ratio" else None
        waited = found.waited if (found := served or timing) else None
        busy = "" if waited is None else f" (this one let it wait for {waited:.0%} of the time)"
        return f"Measure on a quieter machine{busy}, or change the limit."
    images, limit = evidence.images, check.limit
    if interval is None:
        return "Measure on more images that show it."
    needed = images_needed(images, value, interval, limit)
    if needed is None:
        return f"{images} images cannot tell, and more would hardly do. Change the limit."
    return f"{images} images cannot tell. Measure on about {needed:,}, or change the limit."


def number(value: float | None) -> str:
    """A figure as messages give it."""
    return "?" if value is None else f"{value:.4g}"
