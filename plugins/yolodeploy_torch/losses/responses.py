"""Knowledge distillation of what a task has beside boxes and scores: masks, keypoints, angles, and classes of images.

What is compared is what an app sees. Coefficients and prototypes of masks mean something only together, and another
model may share them out otherwise, so that the masks are compared which they add up to: of the anchors that score best
among their neighbours, within the teacher's box (YOLACT crops masks so, https://arxiv.org/abs/1904.02689). Keypoints
and angles are compared in cells of their map, the unit of box sides. All count by the teacher's score at the anchor.
Classes of images are compared by their divergence (Hinton et al., https://arxiv.org/abs/1503.02531).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy_torch.losses.anchors import Grid, expected, flat
from yolodeploy_torch.losses.detection import CLASS_GAIN, DISTANCE_GAIN
from yolodeploy_torch.losses.masks import MASK_GAIN
from yolodeploy_torch.model import Logits

_MASKS = 32  # per image, whose masks are compared
_PLANE = 2  # numbers of a keypoint that are a place
_NEIGHBOURS = 3  # cells


class Weights(NamedTuple):
    """How much every anchor counts: the teacher's highest score there, [N, h, w] per level and [N, A] of all."""

    levels: list[Tensor]
    anchors: Tensor

    @classmethod
    def of(cls, teacher: Logits) -> Weights:
        """Those of a head."""
        levels = [level.float().sigmoid().amax(1) for level in teacher.scores]
        return cls(levels, torch.cat([level.flatten(1) for level in levels], dim=1))

    def mean(self, values: Tensor) -> Tensor:
        """The weighted mean of values [N, A]; where hardly anything is found, less."""
        return (values * self.anchors).sum() / self.anchors.sum().clamp(min=1)


class Masks(NamedTuple):
    """What adds up to masks: coefficients [N, C, A] and prototypes [N, C, h, w]."""

    coefficients: Tensor
    prototypes: Tensor

    @classmethod
    def of(cls, logits: Logits, prototypes: Tensor | None) -> Masks:
        """Those of a head of a segmentation model."""
        if prototypes is None:
            raise ValueError("the model gives no masks")
        return cls(logits.extra, prototypes)

    def at(self, anchors: Tensor) -> Tensor:
        """Logits of the masks [N, m, h, w] at anchors [N, m]."""
        count = self.coefficients.shape[1]
        index = anchors[:, None].expand(-1, count, -1)
        chosen = self.coefficients.gather(2, index)
        masks = chosen.transpose(1, 2) @ self.prototypes.float().flatten(2)
        return masks.reshape(*masks.shape[:2], *self.prototypes.shape[2:])


def class_response(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean divergence of the classes of logits [N, nc] from the teacher's, in nats."""
    student, teacher = ours.float().log_softmax(1), theirs.float().log_softmax(1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def keypoint_responses(
    ours: Logits, theirs: Logits, shape: tuple[int, int], grid: Grid, weights: Weights
) -> dict[str, Tensor]:
    """How far keypoints are apart, in cells, and their visibilities, as binary cross-entropy above its least.

    A keypoint counts by the visibility that the teacher gives it.
    """
    (places, seen), (wanted, known) = (_keypoints(logits, shape) for logits in (ours, theirs))
    distance = (places - wanted).abs().mean(2) / grid.steps
    certain = torch.ones_like(distance) if known is None else known.sigmoid()
    off = (distance * certain).sum(1) / certain.sum(1).clamp(min=1)
    losses = {"places": DISTANCE_GAIN * weights.mean(off)}
    if seen is not None and known is not None:
        losses["visibilities"] = CLASS_GAIN * weights.mean(_divergence(seen, known).mean(1))
    return losses


def _keypoints(logits: Logits, shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Places [N, K, 2, A] in px, and logits of visibilities [N, K, A] if there are any."""
    places = _parted(logits.extra, shape)[:, :, :_PLANE]
    if shape[1] == _PLANE:
        return places, None
    return places, _parted(flat(logits.extras), shape)[:, :, _PLANE]


def angle_response(ours: Logits, theirs: Logits, weights: Weights) -> Tensor:
    """How far the ends of a box's sides are apart because it is turned otherwise, in cells; half a turn is none."""
    turned = (ours.extra - theirs.extra)[:, 0].sin().abs()
    reach = _distances(theirs).abs().mean(1)
    return DISTANCE_GAIN * weights.mean(turned * reach)


def mask_response(ours: Masks, theirs: Masks, boxes: Tensor, weights: Weights) -> Tensor:
    """Binary cross-entropy of masks against the teacher's, above its least: means over the pixels of its boxes.

    `boxes` [N, 4, A] are the teacher's as left, top, right, bottom, in pixels of the prototypes.
    """
    anchors = _peaks(weights)
    student, teacher = ours.at(anchors), theirs.at(anchors)
    inside = within(boxes.gather(2, anchors[:, None].expand(-1, 4, -1)), student)
    off = (_divergence(student, teacher) * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
    weight = weights.anchors.gather(1, anchors)
    return MASK_GAIN * (off * weight).sum() / weight.sum().clamp(min=1)


def boxes_of(logits: Logits, grid: Grid, step: float) -> Tensor:
    """Upright boxes [N, 4, A] as left, top, right, bottom in units of `step` px."""
    distances = _distances(logits) * grid.steps
    corners = torch.cat((grid.points - distances[:, :2], grid.points + distances[:, 2:]), dim=1)
    return corners / step


def within(boxes: Tensor, masks: Tensor) -> Tensor:
    """Which pixels of masks [N, m, h, w] lie within boxes [N, 4, m]: from the first side to before the second."""
    left, top, right, bottom = boxes[..., None, None].unbind(1)
    down, across = (torch.arange(size, device=masks.device) for size in masks.shape[2:])
    rows = (down[:, None] >= top) & (down[:, None] < bottom)
    return rows & (across >= left) & (across < right)


def _peaks(weights: Weights) -> Tensor:
    """The anchors [N, m] with the highest scores of those that no neighbour in their map exceeds."""
    peaks = []
    for level in weights.levels:
        highest = functional.max_pool2d(level, _NEIGHBOURS, 1, _NEIGHBOURS // 2)
        peaks.append((level * (level == highest)).flatten(1))
    scores = torch.cat(peaks, dim=1)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order[:, :_MASKS]


def _parted(values: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Part the channels of [N, C, A] into two axes."""
    return values.reshape(len(values), *sizes, -1)


def _distances(logits: Logits) -> Tensor:
    """The distances [N, 4, A] to the sides of boxes, in cells."""
    sides = flat(logits.boxes)
    return expected(_parted(sides, (4, sides.shape[1] // 4)), 2)


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the teacher's, less the smallest possible value: 0 for equal ones."""
    wanted = theirs.sigmoid()
    cross, least = (
        functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        for logits in (ours, theirs)
    )
    return cross - least
