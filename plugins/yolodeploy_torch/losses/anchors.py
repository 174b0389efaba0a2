"""What the losses of all heads that find objects share: anchors, distances to the sides of boxes, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import grid
from yolodeploy_torch.losses.assigner import Matches

_LAST_BIN = 0.01  # a distance stays this far below the last bin, so that it lies between two


class Grid(NamedTuple):
    """The anchors of an image: their centres [2, A], and the strides [A] of their maps, in px."""

    points: Tensor
    steps: Tensor


class Anchors:
    """The anchors of a head with these strides, for images of any size."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        self._strides = strides
        self._grids: dict[tuple[ImageShape, torch.device], Grid] = {}

    def __call__(self, imgsz: ImageShape, device: torch.device) -> Grid:
        """Those of images of this size, on a device."""
        key = imgsz, device
        if key not in self._grids:
            sizes = [(imgsz.height // step, imgsz.width // step) for step in self._strides]
            points, steps = grid(sizes, self._strides)
            self._grids[key] = Grid((points * steps)[0].to(device), steps[0, 0].to(device))
        return self._grids[key]


def flat(levels: Sequence[Tensor]) -> Tensor:
    """Concatenate [N, C, h, w] per level to one float32 [N, C, A]."""
    return torch.cat([level.float().flatten(2) for level in levels], dim=2)


def taken(values: Tensor, matches: Matches) -> Tensor:
    """Take the values of the matches' anchors [p, C] out of [N, C, A]."""
    return values[matches.image, :, matches.anchor]


def expected(sides: Tensor, axis: int) -> Tensor:
    """The distances in cells that logits stand for: the mean of a distribution over the bins in an axis.

    A single bin is the distance itself, which may be negative.
    """
    count = sides.shape[axis]
    if count == 1:
        return sides.squeeze(axis)
    bins = torch.arange(count, dtype=torch.float32, device=sides.device)
    shaped = bins.view([-1 if each == axis else 1 for each in range(sides.ndim)])
    return (sides.softmax(axis) * shaped).sum(axis)


def apart(sides: Tensor, distances: Tensor) -> Tensor:
    """How far [p] the logits [p, 4 * bins] are from distances [p, 4] in cells, a mean over the sides."""
    bins = sides.shape[1] // 4
    if bins == 1:
        return (sides - distances).abs().mean(1)
    return _spread(sides.view(-1, 4, bins), distances)


def _spread(sides: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss [p]: cross-entropy with the two bins around each distance, in cells."""
    wanted = distances.clamp(0, sides.shape[2] - 1 - _LAST_BIN)
    lower = wanted.floor()
    share = wanted - lower
    logs = sides.log_softmax(2)
    bins = torch.stack((lower, lower + 1), dim=2).long()
    near = logs.gather(2, bins)
    entropy: Tensor = -(near[..., 0] * (1 - share) + near[..., 1] * share)
    return entropy.mean(1)
