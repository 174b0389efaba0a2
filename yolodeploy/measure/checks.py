"""Compares what was measured with the recipe's checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from yolodeploy.measure.breakdown import BLIND, Row
from yolodeploy.measure.evidence import Evidence
from yolodeploy.recipe import Checks
from yolodeploy.tasks import Key, grouped, one, six_digits

Value = tuple[float | None, str]  # the measured value and a note, or None and the reason


@dataclass(frozen=True)
class Check:
    """One check: the limit, the measured value (None: not measured, see `note`), the verdict.

    `least` means that the limit is the smallest value allowed, not the largest.
    """

    name: str
    limit: float
    value: float | None
    ok: bool
    note: str = ""
    least: bool = False

    def failure(self) -> str:
        """A failed check in one sentence, and what to try."""
        if self.value is None:
            return f"{self.name}: not measured ({self.note}), so the check cannot pass. Remove it or provide the data."
        distance = _number(abs(self.value - self.limit))
        side = "below" if self.least else "over"
        subject = f" ({self.note})" if self.note else ""
        return (
            f"{self.name}{subject}: {_number(self.value)} is {distance} {side} the limit of "
            f"{_number(self.limit)}. {_KINDS[self.name.partition('.')[0]].remedy}"
        )


@dataclass(frozen=True)
class _Kind:
    """How a check finds its value, and what to do if it fails."""

    remedy: str
    value: Callable[[Evidence], Value] | None = None  # None: from the breakdown
    least: bool = False


def _map_drop(evidence: Evidence) -> Value:
    """The drop of mAP, unless the source model finds nothing and so has nothing to lose."""
    measure = one(evidence.measures, Key.MAP50_95)
    return (None, BLIND) if measure.source == 0 else (measure.loss, measure.reason)


def _worst_class(evidence: Evidence) -> Value:
    """The largest drop among the classes that the source model finds."""
    labelled = [m for m in grouped(evidence.measures, Key.CLASS_AP) if m.loss is not None]
    found = [measure for measure in labelled if measure.source]
    if not found:
        return None, BLIND if labelled else "no class has labels"
    worst = max(found, key=lambda measure: measure.loss or 0.0)
    return worst.loss, f"class `{worst.group}`"


def _score(key: Key) -> Callable[[Evidence], Value]:
    def value(evidence: Evidence) -> Value:
        measure = one(evidence.measures, key)
        return six_digits(measure.artifact), measure.reason

    return value


def _timed(key: Key) -> Callable[[Evidence], Value]:
    def value(evidence: Evidence) -> Value:
        measure = one(evidence.measures, key)
        return measure.artifact, measure.reason or f"on {evidence.timing.cpu}"

    return value


_LAYERS = "Compress less, or keep the sensitive layers in floating point; or allow a"
_KINDS: Mapping[str, _Kind] = {
    "size_mb": _Kind(
        "Store weights in fp16, or compress further; or raise the limit.",
        lambda evidence: (round(evidence.artifact.bytes / 1e6, 6), ""),
    ),
    "map_drop": _Kind(f"{_LAYERS} larger drop.", _map_drop),
    "class_ap_drop": _Kind(
        "Compress less, or measure on more images of that class; or allow a larger drop.",
        _worst_class,
    ),
    "fidelity": _Kind(f"{_LAYERS} lower fidelity.", _score(Key.FIDELITY), least=True),
    "latency_ratio": _Kind(
        "This form is not faster on this processor: choose another, or raise the limit.",
        _timed(Key.LATENCY_RATIO),
    ),
    "speedup": _Kind(
        "Prune more, or choose a form that this processor computes faster; or lower the limit.",
        _timed(Key.SPEEDUP),
        least=True,
    ),
    "output_diff": _Kind(
        "Export with `precision: fp32`, or allow a larger difference.", _score(Key.OUTPUT_DIFF)
    ),
    "step_drop": _Kind("Let the step train longer, cut or compress less; or allow a larger drop."),
}


def run_checks(wanted: Checks, evidence: Evidence, breakdown: Sequence[Row]) -> tuple[Check, ...]:
    """Make every check of the recipe. A step that the recipe names twice is checked twice."""
    return tuple(_checks(wanted, evidence, breakdown))


def _checks(wanted: Checks, evidence: Evidence, breakdown: Sequence[Row]) -> Iterator[Check]:
    for name, limit in wanted.model_dump(exclude_none=True, exclude={"step_drop"}).items():
        if value := _KINDS[name].value:
            yield _check(name, limit, *value(evidence))
    limits = wanted.step_drop or {}
    for row in breakdown:
        if row.step in limits:
            note = f"{row.reasons['drop']}; {row.at}" if row.drop is None else row.at
            yield _check(f"step_drop.{row.step}", limits[row.step], row.drop, note)


def _check(name: str, limit: float, value: float | None, note: str) -> Check:
    least = _KINDS[name.partition(".")[0]].least
    ok = value is not None and (value >= limit if least else value <= limit)
    return Check(name, limit, value, ok, note, least)


def _number(value: float) -> str:
    return f"{value:.4g}"
