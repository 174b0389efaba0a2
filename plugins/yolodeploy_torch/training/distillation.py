"""Knowledge distillation: how far a student is from its teacher.

Response distillation compares outputs: class scores, and the distributions of the box sides (Zheng
et al., Localization Distillation, https://arxiv.org/abs/2102.12252). Feature distillation compares
the maps that the heads read (Romero et al., FitNets, https://arxiv.org/abs/1412.6550), through a 1x1
convolution to the teacher's channels. Box sides and maps count by the teacher's highest class score
at their anchor, because almost all of an image is background; class scores are compared everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-9


def score_loss(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Binary cross-entropy of class logits [N, nc, h, w] per level against the teacher's scores.

    Its smallest possible value is subtracted, so that a perfect student has 0. The sum is divided by the
    sum of the teacher's highest scores, which stands for the number of objects that it sees.
    """
    student, teacher = _flat(ours), _flat(theirs)
    wanted = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, wanted, reduction="sum")
    least = functional.binary_cross_entropy_with_logits(teacher, wanted, reduction="sum")
    return 0.5 * (cross - least) / wanted.amax(1).sum().clamp(min=1)


def side_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Divergence of the distributions of the four box sides, weighted by anchor, in nats.

    Logits are [N, 4 * bins, h, w] per level, weights [N, h, w].
    """
    weight = torch.cat([level.flatten(1) for level in weights], dim=1)
    student, teacher = (_sides(_flat(levels)) for levels in (ours, theirs))
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(2)
    return 1.5 * (divergence.mean(1) * weight).sum() / weight.sum().clamp(min=1)


def _sides(logits: Tensor) -> Tensor:
    """Log probabilities [N, 4, bins, A] of [N, 4 * bins, A]."""
    batch, channels, anchors = logits.shape
    return logits.reshape(batch, 4, channels // 4, anchors).log_softmax(2)


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


def _flat(levels: list[Tensor]) -> Tensor:
    """Concatenate [N, C, h, w] per level to one float32 [N, C, A]."""
    return torch.cat([level.float().flatten(2) for level in levels], dim=2)
