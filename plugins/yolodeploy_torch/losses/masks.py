"""The loss of masks on labels (YOLACT, https://arxiv.org/abs/1904.02689).

A mask is the sum of the prototypes, weighted by the coefficients of the anchor that finds the object. Its logits have
the binary cross-entropy with the labelled mask, at the resolution of the prototypes. Only pixels within the labelled box
count, because there a mask is cut off, and their sum is divided by the area of the box. Every anchor that learns the
object learns its mask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy_torch.losses.anchors import taken
from yolodeploy_torch.losses.assigner import Matches

MASK_GAIN = 7.5  # as of a box: a mask stands for its overlap


def mask_loss(
    coefficients: Tensor, prototypes: Tensor, masks: Tensor, boxes: Tensor, matches: Matches
) -> Tensor:
    """The loss of coefficients [N, C, A] and prototypes [N, C, h, w], a mean over the matches, times its gain.

    `masks` uint8 [n, h, w] are the labelled ones, `boxes` [n, 4] left, top, right, bottom in pixels of the prototypes.
    """
    weights, maps = taken(coefficients, matches), prototypes.float()
    losses = [weights.sum() * 0]  # so that there is a gradient without objects, too
    order = matches.box.argsort(stable=True)
    counts = torch.bincount(matches.box, minlength=len(masks)).tolist()
    for number, chosen in enumerate(torch.split(order, counts)):
        if not len(chosen):
            continue
        left, top, right, bottom = boxes[number].tolist()
        rows, columns = _pixels(top, bottom), _pixels(left, right)
        wanted = masks[number, rows, columns].float().flatten()
        image = int(matches.image[chosen[0]])
        logits = weights[chosen] @ maps[image, :, rows, columns].flatten(1)
        off = functional.binary_cross_entropy_with_logits(
            logits, wanted.expand_as(logits), reduction="sum"
        )
        losses.append(off / max((right - left) * (bottom - top), 1.0))
    return MASK_GAIN * torch.stack(losses).sum() / max(len(matches.box), 1)


def _pixels(first: float, last: float) -> slice:
    """The pixels of an axis from one place to before another."""
    return slice(max(math.ceil(first), 0), max(math.ceil(last), 0))
