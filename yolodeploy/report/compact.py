"""The figures of a deployment in a few rows of text, for a notebook or a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from yolodeploy.measure import Check, Verdict, number, read_checks
from yolodeploy.report.report import signed
from yolodeploy.tasks import TITLES, Key, Measure, grouped, one, read_measures

_ABSENT = "-"


class Figure(NamedTuple):
    """One row: what was measured, of which class if not of all, of the source model, of the artifact, and the change with its interval."""

    title: str
    group: str
    source: str
    artifact: str
    change: str


class Verdicts(NamedTuple):
    """One row: a check, its verdict, the measured value and the limit."""

    name: str
    verdict: str
    value: str
    limit: str


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The accuracies of both models with their drops, fidelity, the largest drop of a class, size and latency."""
    return [*_accuracies(report), *_costs(report)]


def verdicts(report: Mapping[str, Any]) -> list[Verdicts]:
    """The checks of a report."""
    return [_verdict(check) for check in read_checks(report["checks"])]


def device_latency(report: Mapping[str, Any], measures: Iterable[Measure]) -> float | None:
    """Milliseconds per image; None if untimed, or if the runtime's speed says nothing about the device."""
    runtime = report.get("conditions", {}).get("runtime", {})
    silent = runtime.get("timing") is False
    return None if silent else one(measures, Key.LATENCY).artifact


def _verdict(check: Check) -> Verdicts:
    value = "not measured" if check.value is None else number(check.value)
    if check.interval and check.verdict == Verdict.UNDECIDED:
        value += f" ({number(check.interval[0])} to {number(check.interval[1])})"
    side = "at least" if check.least else "at most"
    return Verdicts(check.name, check.verdict, value, f"{side} {number(check.limit)}")


def _accuracies(report: Mapping[str, Any]) -> Iterator[Figure]:
    measures = read_measures(report["measures"])
    for key in report["scores"]:
        yield _compared(TITLES[key], one(measures, Key(key)))
    fidelity = one(measures, Key.FIDELITY)
    if fidelity.artifact is not None:
        yield Figure("fidelity", "", _ABSENT, f"{fidelity.artifact:.4f}", _ABSENT)
    lost = [m for m in grouped(measures, Key.CLASS_AP) if round(m.loss or 0.0, 4) > 0]
    if worst := max(lost, key=lambda measure: measure.loss or 0.0, default=None):
        yield _compared("worst class:", worst)


def _compared(title: str, measure: Measure) -> Figure:
    if measure.source is None or measure.artifact is None:
        return Figure(title, measure.group, _ABSENT, f"not measured: {measure.reason}", _ABSENT)
    change = signed(-(measure.loss or 0.0))
    if measure.interval:
        low, high = sorted(-each for each in measure.interval)
        change += f" ({signed(low)} to {signed(high)})"
    return Figure(title, measure.group, f"{measure.source:.4f}", f"{measure.artifact:.4f}", change)


def _costs(report: Mapping[str, Any]) -> Iterator[Figure]:
    measures = read_measures(report["measures"])
    yield Figure("size", "", _ABSENT, f"{report['artifact']['bytes'] / 1e6:.2f} MB", _ABSENT)
    latency, ratio = one(measures, Key.LATENCY), one(measures, Key.LATENCY_RATIO)
    if latency.artifact is None:
        yield Figure("latency", "", _ABSENT, f"not measured: {latency.reason}", _ABSENT)
        return
    before = _ABSENT if latency.source is None else f"{latency.source:.1f} ms (fp32 export)"
    times = _ABSENT if ratio.artifact is None else f"{ratio.artifact:.2f} times"
    yield Figure("latency", "", before, f"{latency.artifact:.1f} ms", times)
