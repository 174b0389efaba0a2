"""How much each channel of a group matters, by the usual criteria; higher is more important.

These criteria look at the weights and give one number for a channel of one convolution; a group
takes the root of the sum of squares over the convolutions that make it. `taylor.py` looks at the
loss. Dividing by the group's mean makes groups comparable with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from yolodeploy_torch.channels import Channels, Group

Criterion = Literal["magnitude", "bn_scale"]
_EPS = 1e-12


def importance(
    criterion: Criterion,
    found: Channels,
    state: Mapping[str, Tensor],
    eps: float,
) -> dict[Group, Tensor]:
    """Float64 `[size]` for every group that may be cut.

    `magnitude` is the L2 norm of a channel's filter with its batch normalisation folded in (Li et
    al., https://arxiv.org/abs/1608.08710); `bn_scale` the normalisation's scale (Network Slimming,
    https://arxiv.org/abs/1708.06519).
    """
    rate = _rates(criterion, state, eps)
    squares = {
        group: torch.zeros(group.size, dtype=torch.float64)
        for group in found.groups
        if not group.fixed
    }
    for name, use in found.uses.items():
        if any(group.fixed for group in use.outputs):
            continue
        rates = rate(name.removesuffix(".conv")).square()
        scores = torch.split(rates, [group.size for group in use.outputs])
        for group, score in zip(use.outputs, scores, strict=True):
            squares[group] += score
    return {group: square.sqrt() for group, square in squares.items()}


def relative(scores: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Scores relative to the mean of their group."""
    return {group: score / score.mean().clamp(min=_EPS) for group, score in scores.items()}


def _rates(
    criterion: Criterion, state: Mapping[str, Tensor], eps: float
) -> Callable[[str], Tensor]:
    def scale(unit: str) -> Tensor:
        return state[f"{unit}.bn.weight"].double()

    def magnitude(unit: str) -> Tensor:
        folded = scale(unit) / (state[f"{unit}.bn.running_var"].double() + eps).sqrt()
        norms: Tensor = state[f"{unit}.conv.weight"].double().flatten(1).norm(dim=1)
        return norms * folded.abs()

    return magnitude if criterion == "magnitude" else lambda unit: scale(unit).abs()
