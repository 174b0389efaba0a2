"""Choose the channels that stay: the least important go first, until the target is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from yolodeploy.errors import StepFailed
from yolodeploy_torch.model import Group, Structure

Scores = Mapping[Group, Tensor]
Sizes = dict[Group, int]
Spend = Callable[[Sizes], float]
_HALVINGS = 60


@dataclass(frozen=True)
class Limits:
    """Groups keep a multiple of `multiple` channels, and at least what `floors` gives for their name."""

    multiple: int
    floors: Mapping[str, int]

    @classmethod
    def of(cls, found: Structure, multiple: int, least: float) -> Limits:
        """The floors are a share of the channels that the model has now."""
        floors = {group.name: math.ceil(group.size * least) for group in found.groups}
        return cls(multiple, floors)

    def size(self, group: Group, wanted: int) -> int:
        """The smallest allowed size of a group that is at least `wanted`."""
        unit = min(self.multiple, group.size)
        floor = max(wanted, self.floors[group.name], 1)
        return min(math.ceil(floor / unit) * unit, group.size)


def choose_global(
    found: Structure, scores: Scores, limits: Limits, spend: Spend, budget: float
) -> Sizes:
    """Cut by one threshold on the scores of all groups that have some, the lowest that meets the budget."""

    def at(threshold: float) -> Sizes:
        sizes = {
            group: limits.size(group, int((score > threshold).sum()))
            for group, score in scores.items()
        }
        return found.sizes | sizes

    top = max((float(score.max()) for score in scores.values()), default=0.0)
    return _least(at, top, spend, budget)


def choose_by_layer(
    found: Structure, scores: Scores, limits: Limits, spend: Spend, budget: float
) -> Sizes:
    """Cut the same share of every group that has scores."""

    def at(share: float) -> Sizes:
        sizes = {g: limits.size(g, math.ceil(g.size * (1 - share))) for g in scores}
        return found.sizes | sizes

    return _least(at, 1.0, spend, budget)


def _least(at: Callable[[float], Sizes], top: float, spend: Spend, budget: float) -> Sizes:
    """The sizes at the smallest level in 0..top that meets the budget; a higher level cuts more."""
    best = spend(at(top))
    if best > budget:
        raise StepFailed(
            f"cutting as much as `least` and `multiple` allow leaves {best:.3f} of the model, and "
            f"{budget:g} is wanted. Lower `least`, or raise `keep`."
        )
    low, high = 0.0, top
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if spend(at(middle)) <= budget else (middle, high)
    return at(high)


def keep_best(sizes: Sizes, scores: Scores) -> dict[Group, Tensor]:
    """The most important channels of every group, ascending; ties go to the first."""
    return {
        group: _best(scores[group], size) if group in scores else torch.arange(group.size)
        for group, size in sizes.items()
    }


def _best(scores: Tensor, count: int) -> Tensor:
    order = torch.argsort(scores, descending=True, stable=True)
    return torch.sort(order[:count]).values
