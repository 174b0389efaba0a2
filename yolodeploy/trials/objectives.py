"""What a search improves: how each figure is read from what was measured, its limit, what differences count, and what no other beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from yolodeploy.errors import PlanRefused
from yolodeploy.hosts import Host
from yolodeploy.measure import Comparison, Evidence
from yolodeploy.planning import Plan
from yolodeploy.recipe import Objectives, Position
from yolodeploy.tasks import Key, Measure, one

DROPS = ("map_drop", "top1_drop")
TIMES = ("latency_ratio", "latency_ms")
# Smaller differences are taken for none: a hundred images do not tell them, and nobody would choose by them.
_GRAIN = {"size_mb": 0.01, "map_drop": 0.002, "top1_drop": 0.002, "fidelity": 0.002}
_SHARE = 0.02  # of a latency: what two timings of the same artifact differ by on a quiet machine

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Figure:
    """A measured figure, with its interval if one is known."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Objective:
    """One figure to improve: its name as in `checks`, and the limit that a recipe must keep, if there is one."""

    name: str
    limit: float | None = None

    @property
    def most(self) -> bool:
        """Whether more is better."""
        return self.name == "fidelity"

    @property
    def timed(self) -> bool:
        """Whether it is a latency, which differs from run to run."""
        return self.name in TIMES

    def units(self, value: float) -> float:
        """The figure in units of the smallest difference that counts; a smaller one is better. To be better than the source model is luck."""
        if self.timed:
            return math.log(max(value, 1e-9)) / _SHARE
        units = max(0.0, value) / _GRAIN[self.name]
        return -units if self.most else units

    def told(self, value: float) -> float:
        """The figure as the sampler learns of it, less is better: latencies, which differ from run to run, in steps."""
        if self.timed:
            return round(self.units(value)) * _SHARE
        return -value if self.most else value

    def excess(self, value: float) -> float:
        """By how much a figure breaks the limit, as a share of it; 0 if it keeps it."""
        if self.limit is None:
            return 0.0
        over = self.limit - value if self.most else value - self.limit
        return max(0.0, over / max(abs(self.limit), 1e-3))

    def certainly_over(self, figure: Figure) -> bool:
        """Whether a figure breaks the limit wherever in its interval it lies."""
        low, high = figure.interval or (figure.value, figure.value)
        best = max(high, figure.value) if self.most else min(low, figure.value)
        return self.excess(best) > 0


def wanted(objectives: Objectives) -> tuple[Objective, ...]:
    """The objectives of a search block, in the order of `checks`."""
    names = [name for name in type(objectives).model_fields if name in objectives.model_fields_set]
    return tuple(Objective(name, getattr(objectives, name)) for name in names)


def require_measurable(
    objectives: Sequence[Objective], plan: Plan, host: Host | None, where: Mapping[str, Position]
) -> None:
    """Raise PlanRefused for an objective that nothing measures, as far as that is known before anything runs; `host` if that is known, too."""
    view = plan.views["evaluation"]
    for objective in objectives:
        if reason := _unmeasurable(objective.name, view.task, view.labelled, host):
            raise PlanRefused(f"{where[objective.name]}: `{objective.name}` {reason}")


def _unmeasurable(name: str, task: str, labelled: bool, host: Host | None) -> str | None:
    right = "top1_drop" if task == "classify" else "map_drop"
    if name in DROPS and name != right:
        return f"is nothing that a model for `{task}` has. Write `{right}` instead."
    if name in DROPS and not labelled:
        return "needs labels, and no evaluation image has any. Search for `fidelity` instead, which needs none."
    if host is None:
        return None
    if name == "latency_ms" and not host.name:
        return (
            "is measured on the target device alone, and no host was named. Add `--on HOST` (see `yolodeploy hosts`), or "
            "search for `latency_ratio`."
        )
    if name in TIMES and host.untimed:
        return f"cannot be measured: {host.untimed}. Leave it out."
    return None


def figures_of(
    objectives: Sequence[Objective], found: Comparison | Evidence
) -> tuple[dict[str, Figure], dict[str, str]]:
    """The figures of the objectives, and the reasons for those that were not measured."""
    values: dict[str, Figure] = {}
    missing: dict[str, str] = {}
    for objective in objectives:
        figure = _figure(objective.name, found)
        if isinstance(figure, Figure):
            values[objective.name] = figure
        else:
            missing[objective.name] = figure
    return values, missing


def _figure(name: str, found: Comparison | Evidence) -> Figure | str:
    """A figure, or the reason why there is none."""
    if name == "size_mb":
        return Figure(round(found.artifact.bytes / 1e6, 6))
    if name in DROPS:
        measure = one(found.measures, found.scores[0])
        loss = measure.loss
        return measure.reason if loss is None else Figure(loss, measure.interval)
    if name == "fidelity":
        return _artifact(one(found.measures, Key.FIDELITY))
    return _latency(name, found) if isinstance(found, Evidence) else "it is measured later"


def _latency(name: str, found: Evidence) -> Figure | str:
    if name == "latency_ratio":
        return _artifact(one(found.measures, Key.LATENCY_RATIO))
    timing = found.timing
    if not found.place.on_device or timing is None:
        return f"it was measured on {found.place.words()}, which is not the device"
    image = timing.image
    return Figure(timing.image_ms, (image.low, image.high) if image else None)


def _artifact(measure: Measure) -> Figure | str:
    if measure.artifact is None:
        return measure.reason
    return Figure(round(measure.artifact, 6), measure.interval)


def front(
    objectives: Sequence[Objective], tried: Mapping[_Key, Mapping[str, Figure]]
) -> list[_Key]:
    """The keys of what nothing else outdoes and no limit excludes, the best by the first objective first.

    One outdoes another if it is better in something by more than counts, and worse in nothing by more than that. Of those between
    which no difference counts, the first in that order stays.
    """
    points = {
        key: tuple(objective.units(found[objective.name].value) for objective in objectives)
        for key, found in tried.items()
        if all(objective.excess(found[objective.name].value) == 0 for objective in objectives)
    }
    left = sorted(points, key=lambda key: points[key])
    for key in list(left):
        if any(_outdoes(points[other], points[key]) for other in left):
            left.remove(key)
    kept = list[_Key]()
    for key in left:
        if not any(_alike(points[other], points[key]) for other in kept):
            kept.append(key)
    return kept


def _outdoes(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b + 1 for a, b in pairs) and any(a < b - 1 for a, b in pairs)


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))
