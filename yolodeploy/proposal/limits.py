"""The checks of a first recipe: guesses on the safe side, or limits with a margin around what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Advice
from yolodeploy.tasks import Key, Measure, grouped, one

if TYPE_CHECKING:
    from yolodeploy.measure import Evidence

_DIGITS = 2  # of a limit
_SIZE_MARGIN, _TIME_MARGIN = 1.05, 1.15
_LEAST_MARGIN = 0.005  # of a drop: what noise alone may be
_GAIN = 0.95  # a latency ratio above this is no gain worth a check


@dataclass(frozen=True)
class Limit:
    """One check: its key and limit, and what to say beside it."""

    key: str
    value: float
    comment: str = ""


def guessed(advice: Advice, task: str, *, labelled: bool) -> list[Limit]:
    """What the backend says that the result surely keeps to."""
    found = []
    if advice.size_mb is not None:
        found.append(Limit("size_mb", up(advice.size_mb), "megabytes (1e6 bytes)"))
    if advice.drop is not None and labelled:
        score = "top-1 accuracy" if task == "classify" else "mAP50-95"
        found.append(
            Limit(_drop_key(task), advice.drop, f"loss of {score} against the source model")
        )
    if advice.fidelity is not None:
        found.append(Limit("fidelity", advice.fidelity, _fidelity_text(task)))
    return found


def measured(evidence: Evidence, task: str) -> list[Limit]:
    """Limits with a margin around what was measured."""
    return list(_measured(evidence, task))


def _measured(evidence: Evidence, task: str) -> Iterator[Limit]:
    measures, primary = evidence.measures, evidence.primary
    size = evidence.artifact.bytes / 1e6
    yield Limit("size_mb", up(size * _SIZE_MARGIN), f"measured: {size:.3g} MB")
    if primary.loss is not None and primary.source:
        yield Limit(_drop_key(task), _above(primary), f"measured: {_lost(primary)}")
    lost = [m for m in grouped(measures, Key.CLASS_AP) if m.loss is not None and m.source]
    if len(lost) > 1 and all(each.interval for each in lost):
        worst = max(lost, key=_above)
        yield Limit("class_ap_drop", _above(worst), f"measured: {_lost(worst)} at worst")
    fidelity = one(measures, Key.FIDELITY).artifact
    if fidelity is not None:
        least = down(fidelity - max(0.01, 0.3 * (1 - fidelity)))
        yield Limit("fidelity", least, f"measured: {fidelity:.4f}")
    ratio = one(measures, Key.LATENCY_RATIO)
    if ratio.artifact is not None and ratio.interval and ratio.interval[1] < _GAIN:
        limit = min(up(ratio.interval[1] * _TIME_MARGIN), 1.0)
        yield Limit(
            "latency_ratio", limit, f"measured: {ratio.artifact:.2f} times fp32, on this machine"
        )


def _drop_key(task: str) -> str:
    return "top1_drop" if task == "classify" else "map_drop"


def _fidelity_text(task: str) -> str:
    if task == "classify":
        return "share of images on which both models agree"
    return "mAP50-95 of what it finds against what the source model finds"


def _above(measure: Measure) -> float:
    """A limit above a loss: what noise may make of it, and no less than a little."""
    loss = measure.loss or 0.0
    high = measure.interval[1] if measure.interval else loss
    return up(max(loss, 0.0) + max(_LEAST_MARGIN, high - loss))


def _lost(measure: Measure) -> str:
    loss = f"{measure.loss:+.4f}"
    if measure.interval is None:
        return loss
    low, high = measure.interval
    return f"{loss} ({low:+.4f} to {high:+.4f})"


def up(value: float) -> float:
    """Round a positive limit up to two digits."""
    return _rounded(value, math.ceil)


def down(value: float) -> float:
    """Round a limit in 0..1 down to two digits after the point."""
    return max(math.floor(value * 100) / 100, 0.0)


def _rounded(value: float, way: Any) -> float:
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(value)))
    return float(f"{way(round(value * scale, 6)) / scale:.6g}")
