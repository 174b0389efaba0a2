"""How well boxes agree: intersection over union, and what stands for it where boxes are rotated."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7
_FARTHEST = 100.0  # the greatest distance of rotated boxes that is told apart


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU of boxes [n, 4] as left, top, right, bottom: [n], 1 for equal ones.

    The overlap minus the distance of the centres (relative to the enclosing box) and the difference of
    the aspect ratios (Zheng et al., https://arxiv.org/abs/1911.08287; no gradient flows through the weight
    of the latter). A box whose right lies left of its left is empty.
    """
    size_1, size_2 = ((box[:, 2:] - box[:, :2]).clamp(min=0) for box in (first, second))
    common = (
        torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    ).clamp(min=0)
    around = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    shared = common.prod(1)
    iou = shared / (size_1.prod(1) + size_2.prod(1) - shared + _EPS)
    apart = (second[:, :2] + second[:, 2:] - first[:, :2] - first[:, 2:]).square().sum(1) / 4
    shape = (4 / math.pi**2) * (_angle(size_2) - _angle(size_1)).square()
    with torch.no_grad():
        weight = shape / (1 - iou + shape + _EPS)
    return iou - apart / (around.square().sum(1) + _EPS) - weight * shape


def _angle(size: Tensor) -> Tensor:
    return torch.atan(size[:, 0] / (size[:, 1] + _EPS))


def prob_iou(first: Tensor, second: Tensor) -> Tensor:
    """The similarity of rotated boxes [n, 5] as centre x and y, width, height, angle: [n], 1 for equal ones.

    A box stands for a normal distribution whose variances along its sides are a twelfth of their squares, and
    1 less the Hellinger distance of the two is how similar they are (Llerena et al., https://arxiv.org/abs/2106.06072).
    """
    (a1, b1, k1), (a2, b2, k2) = _covariance(first), _covariance(second)
    a, b, k = a1 + a2, b1 + b2, k1 + k2
    x, y = (first[:, :2] - second[:, :2]).unbind(1)
    area = a * b - k.square()
    shift = (0.25 * (a * y.square() + b * x.square()) - 0.5 * k * x * y) / (area + _EPS)
    own = (a1 * b1 - k1.square()).clamp(min=0) * (a2 * b2 - k2.square()).clamp(min=0)
    shape = 0.5 * (area / (4 * own.sqrt() + _EPS) + _EPS).log()
    distance = (shift + shape).clamp(_EPS, _FARTHEST)
    return 1 - (1 - (-distance).exp() + _EPS).sqrt()


def _covariance(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variance of x, of y, and their covariance."""
    across, down = boxes[:, 2].square() / 12, boxes[:, 3].square() / 12
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    return (
        across * cos.square() + down * sin.square(),
        across * sin.square() + down * cos.square(),
        (across - down) * cos * sin,
    )
