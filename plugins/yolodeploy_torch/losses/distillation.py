"""Knowledge distillation: how far a student is from its teacher.

Response distillation compares outputs: class scores, and the distributions of the box sides (Zheng
et al., Localization Distillation, https://arxiv.org/abs/2102.12252), or where the two heads have other bins the
distances that these stand for. Feature distillation compares
the maps that the heads read (Romero et al., FitNets, https://arxiv.org/abs/1412.6550), through a 1x1
convolution to the teacher's channels. Box sides and maps count by the teacher's highest class score
at their anchor, because almost all of an image is background; class scores are compared everywhere. Of a model
whose head is unknown the outputs are compared: scores as scores, and boxes by the sides of the teacher's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy_torch.losses.anchors import expected, flat
from yolodeploy_torch.losses.detection import BOX_GAIN, CLASS_GAIN, DISTANCE_GAIN

_TINY = 1e-9
_LEAST_SCORE = 1e-6
_ROUND = 0.05  # of a side, within which the box loss is a parabola


def score_loss(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Binary cross-entropy of class logits [N, nc, h, w] per level against the teacher's scores.

    Its smallest possible value is subtracted, so that a perfect student has 0. The sum is divided by the
    sum of the teacher's highest scores, which stands for the number of objects that it sees.
    """
    student, teacher = flat(ours), flat(theirs)
    wanted = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, wanted, reduction="sum")
    least = functional.binary_cross_entropy_with_logits(teacher, wanted, reduction="sum")
    return 0.5 * (cross - least) / wanted.amax(1).sum().clamp(min=1)


def side_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Divergence of the distributions of the four box sides, weighted by anchor, in nats.

    Logits are [N, 4 * bins, h, w] per level, weights [N, h, w].
    """
    weight = torch.cat([level.flatten(1) for level in weights], dim=1)
    student, teacher = (_sides(flat(levels)).log_softmax(2) for levels in (ours, theirs))
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(2)
    return DISTANCE_GAIN * (divergence.mean(1) * weight).sum() / weight.sum().clamp(min=1)


def distance_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Absolute difference in cells of the distances to the four box sides, weighted by anchor.

    Logits are [N, 4 * bins, h, w] per level, weights [N, h, w]; the two may have other numbers of bins.
    """
    weight = torch.cat([level.flatten(1) for level in weights], dim=1)
    student, teacher = (expected(_sides(flat(levels)), 2) for levels in (ours, theirs))
    apart = (student - teacher).abs().mean(1)
    return DISTANCE_GAIN * (apart * weight).sum() / weight.sum().clamp(min=1)


def _sides(logits: Tensor) -> Tensor:
    """Arrange [N, 4 * bins, A] as [N, 4, bins, A]."""
    batch, channels, anchors = logits.shape
    return logits.reshape(batch, 4, channels // 4, anchors)


def feature_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Mean squared difference of maps [N, C, h, w], relative to the teacher's variance.

    Cells are weighted by `weights` [N, h, w]; every level counts the same.
    """
    parts = []
    for student, teacher, weight in zip(ours, theirs, weights, strict=True):
        scale = teacher.float().var(dim=(0, 2, 3), keepdim=True) + _TINY
        squares = ((student.float() - teacher.float()).square() / scale).mean(1)
        parts.append((squares * weight).sum() / weight.sum().clamp(min=1))
    return torch.stack(parts).mean()


class OutputLosses(NamedTuple):
    """How far scores and boxes are apart, 0-dim, times their gains."""

    scores: Tensor
    boxes: Tensor


def output_losses(ours: Tensor, theirs: Tensor) -> OutputLosses:
    """How far outputs [N, 4 + nc, A] are apart in their scores, and in their boxes.

    For training without labels against a model of whose head only the output is known. Scores are compared as
    `score_loss` does. Centres and sizes, in px, count relative to the sides of the teacher's boxes, which count by
    their highest score: about what the boxes lack to the overlap that the detection loss asks for.
    """
    (boxes, scores), (wanted, certain) = (
        (value.float()[:, :4], value.float()[:, 4:].clamp(_LEAST_SCORE, 1 - _LEAST_SCORE))
        for value in (ours, theirs)
    )
    weight = certain.amax(1)
    total = weight.sum().clamp(min=1)
    cross = functional.binary_cross_entropy(scores, certain, reduction="sum")
    least = functional.binary_cross_entropy(certain, certain, reduction="sum")
    sides = wanted[:, 2:].clamp(min=1).repeat(1, 2, 1)
    apart = functional.smooth_l1_loss(
        boxes / sides, wanted / sides, reduction="none", beta=_ROUND
    ).mean(1)
    return OutputLosses(
        CLASS_GAIN * (cross - least) / total, BOX_GAIN * (apart * weight).sum() / total
    )
