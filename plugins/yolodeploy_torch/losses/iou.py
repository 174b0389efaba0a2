"""How well boxes agree: intersection over union."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7


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
