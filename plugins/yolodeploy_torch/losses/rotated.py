"""The detection loss of rotated boxes.

As that of upright ones, with three differences: boxes agree by ProbIoU (https://arxiv.org/abs/2106.06072), an anchor may
find a box in which it lies as it is turned, and the distances to the four sides are those along the sides of the
labelled box. So the angle learns through ProbIoU alone, which a square does not need.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection
from yolodeploy_torch.losses.anchors import Anchors, Grid, apart, expected, flat, taken
from yolodeploy_torch.losses.assigner import TOP_K, Matches, assign, find_rotated_candidates
from yolodeploy_torch.losses.detection import (
    BOX_GAIN,
    CLASS_GAIN,
    DISTANCE_GAIN,
    Losses,
    Targets,
    class_entropy,
)
from yolodeploy_torch.losses.iou import prob_iou
from yolodeploy_torch.model import Logits


class RotatedLoss:
    """The loss of one branch of a head for rotated boxes; holds no weights."""

    def __init__(self, head: Detection, top_k: int = TOP_K) -> None:
        """An object trains `top_k` anchors at most: one, where the branch shall give no duplicates."""
        self._bins, self._top_k = head.reg_max, top_k
        self._least = head.strides[:2][-1]
        self._anchors = Anchors(head.strides)

    def __call__(
        self, logits: Logits, targets: Targets, rotated: Tensor, imgsz: ImageShape
    ) -> Losses:
        """The loss of the logits for images of this size.

        `rotated` [n, 5] are the labelled boxes in place of those of `targets`: centre x and y, width and height in px,
        and the angle in radians. Computes in float32 whatever the logits are.
        """
        sides, classes = flat(logits.boxes), flat(logits.scores)
        angles = logits.extra
        anchors = self._anchors(imgsz, sides.device)
        targets, rotated = targets.to(sides.device), rotated.to(sides.device)
        with torch.no_grad():
            matches = find_rotated_candidates(rotated, targets.image, anchors.points, self._least)
            predicted = self._decode(sides, angles, matches, anchors)
            score = classes[matches.image, targets.cls[matches.box], matches.anchor].sigmoid()
            matches, wanted = assign(
                matches, predicted, score, rotated, anchors.points.shape[1], self._top_k, prob_iou
            )
            total = wanted.sum().clamp(min=1)
        truth = rotated[matches.box]
        overlap = prob_iou(self._decode(sides, angles, matches, anchors), truth)
        distances = _distances(truth, anchors.points.T[matches.anchor])
        off = apart(taken(sides, matches), distances / anchors.steps[matches.anchor, None])
        return Losses(
            BOX_GAIN * ((1 - overlap) * wanted).sum() / total,
            CLASS_GAIN * class_entropy(classes, targets, matches, wanted) / total,
            DISTANCE_GAIN * (off * wanted).sum() / total,
        )

    def _decode(self, sides: Tensor, angles: Tensor, matches: Matches, anchors: Grid) -> Tensor:
        """The boxes [p, 5] of the anchors of matches, as the head decodes them: turned about the anchor."""
        distances = expected(taken(sides, matches).view(-1, 4, self._bins), 2)
        distances = distances * anchors.steps[matches.anchor, None]
        near, far = distances[:, :2], distances[:, 2:]
        angle = taken(angles, matches)
        centre = anchors.points.T[matches.anchor] + _turned((far - near) / 2, angle[:, 0])
        return torch.cat((centre, near + far, angle), dim=1)


def _distances(rotated: Tensor, points: Tensor) -> Tensor:
    """The distances [p, 4] from points [p, 2] to the sides of boxes [p, 5]: left, top, right, bottom before they are turned."""
    away = _turned(points - rotated[:, :2], -rotated[:, 4])
    half = rotated[:, 2:4] / 2
    return torch.cat((half + away, half - away), dim=1)


def _turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Vectors [p, 2] turned by angles [p], from the x axis towards the y axis."""
    cos, sin = angle.cos(), angle.sin()
    x, y = vectors.unbind(1)
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=1)
