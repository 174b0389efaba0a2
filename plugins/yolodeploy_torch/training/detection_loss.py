"""The detection loss of the YOLO families since YOLOv8, from the papers that define its parts.

Boxes: complete IoU (https://arxiv.org/abs/1911.08287) and a loss of the distances to the four sides, for the
anchors that task-aligned assignment gives a labelled box (https://arxiv.org/abs/2108.07755), weighted by the
score they should reach. Distances that are means of a distribution have the distribution focal loss
(https://arxiv.org/abs/2006.04388); plain ones the absolute difference in cells, a fifth of the weight of the
overlap as in YOLOX (https://arxiv.org/abs/2107.08430). Scores: binary cross-entropy of all anchors and classes.
All are divided by the sum of the scores to reach.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection, grid
from yolodeploy_torch.model import Logits
from yolodeploy_torch.training.assigner import TOP_K, Matches, assign, find_candidates
from yolodeploy_torch.training.iou import ciou

# Plain distances hardly depend on theirs: the YOLO26 demo model, spoilt to mAP50-95 0.001 and trained for 5 epochs, reached
# 0.604, 0.603 and 0.606 with 0, 1.5 and 6.
BOX_GAIN, CLASS_GAIN, DISTANCE_GAIN = 7.5, 0.5, 1.5
_LAST_BIN = 0.01  # a distance stays this far below the last bin, so that it lies between two


class Targets(NamedTuple):
    """The labelled objects of a batch.

    `image` int64 [n] is the index of the image in the batch, `cls` int64 [n] the class, `boxes` float32 [n, 4]
    centre x, centre y, width, height as fractions of the image.
    """

    image: Tensor
    cls: Tensor
    boxes: Tensor

    def to(self, device: torch.device) -> Targets:
        """Copy them to a device."""
        return Targets(self.image.to(device), self.cls.to(device), self.boxes.to(device))


class Losses(NamedTuple):
    """The parts of the loss, 0-dim, times their gains; means over the images."""

    box: Tensor
    cls: Tensor
    distance: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the parts."""
        return self.box + self.cls + self.distance


class DetectionLoss:
    """The loss of one branch of a head; holds no weights."""

    def __init__(self, head: Detection, top_k: int = TOP_K) -> None:
        """An object trains `top_k` anchors at most: one, where the branch shall give no duplicates."""
        self._strides, self._bins, self._top_k = head.strides, head.reg_max, top_k
        self._least = head.strides[:2][-1]
        self._grids: dict[tuple[ImageShape, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, logits: Logits, targets: Targets, imgsz: ImageShape) -> Losses:
        """The loss of the logits for images of this size.

        Computes in float32 whatever the logits are. Some or all of the images may have no objects.
        """
        sides = torch.cat([level.float().flatten(2) for level in logits.boxes], dim=2)
        classes = torch.cat([level.float().flatten(2) for level in logits.scores], dim=2)
        points, steps = self._grid(imgsz, sides.device)
        targets = targets.to(sides.device)
        corners = _corners(targets.boxes * _span(imgsz, sides.device))
        with torch.no_grad():
            matches = find_candidates(corners, targets.image, points, self._least)
            predicted = self._decode(_at(sides, matches), matches, points, steps)
            score = classes[matches.image, targets.cls[matches.box], matches.anchor].sigmoid()
            matches, wanted = assign(
                matches, predicted, score, corners, points.shape[1], self._top_k
            )
            total = wanted.sum().clamp(min=1)
        sides = _at(sides, matches)
        truth = corners[matches.box]
        overlap = ciou(self._decode(sides, matches, points, steps), truth)
        distances = _distances(truth, points.T[matches.anchor]) / steps[matches.anchor, None]
        reached = classes[matches.image, targets.cls[matches.box], matches.anchor]
        # the cross-entropy of logit x and target t is softplus(x) - x t, and most t are 0
        entropy = functional.softplus(classes).sum() - (reached * wanted).sum()
        return Losses(
            BOX_GAIN * ((1 - overlap) * wanted).sum() / total,
            CLASS_GAIN * entropy / total,
            DISTANCE_GAIN * (self._apart(sides, distances) * wanted).sum() / total,
        )

    def _grid(self, imgsz: ImageShape, device: torch.device) -> tuple[Tensor, Tensor]:
        """The anchors' centres [2, A] and strides [A] in px."""
        key = imgsz, device
        if key not in self._grids:
            sizes = [(imgsz.height // step, imgsz.width // step) for step in self._strides]
            points, steps = grid(sizes, self._strides)
            self._grids[key] = (points * steps)[0].to(device), steps[0, 0].to(device)
        return self._grids[key]

    def _decode(self, sides: Tensor, matches: Matches, points: Tensor, steps: Tensor) -> Tensor:
        """The boxes [p, 4] as corners in px of the logits [p, 4 * bins]; they may be turned inside out."""
        distances = expected(sides.view(-1, 4, self._bins), 2) * steps[matches.anchor, None]
        centre = points.T[matches.anchor]
        return torch.cat((centre - distances[:, :2], centre + distances[:, 2:]), dim=1)

    def _apart(self, sides: Tensor, distances: Tensor) -> Tensor:
        """How far [p] the logits [p, 4 * bins] are from distances [p, 4] in cells, a mean over the sides."""
        if self._bins == 1:
            return (sides - distances).abs().mean(1)
        return self._spread(sides, distances)

    def _spread(self, sides: Tensor, distances: Tensor) -> Tensor:
        """Distribution focal loss [p]: cross-entropy with the two bins around each distance, in cells."""
        wanted = distances.clamp(0, self._bins - 1 - _LAST_BIN)
        lower = wanted.floor()
        share = wanted - lower
        logs = sides.view(-1, 4, self._bins).log_softmax(2)
        bins = torch.stack((lower, lower + 1), dim=2).long()
        near = logs.gather(2, bins)
        entropy: Tensor = -(near[..., 0] * (1 - share) + near[..., 1] * share)
        return entropy.mean(1)


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


def _at(values: Tensor, matches: Matches) -> Tensor:
    """Take the values of the matches' anchors [p, C] out of [N, C, A]."""
    return values[matches.image, :, matches.anchor]


def _span(imgsz: ImageShape, device: torch.device) -> Tensor:
    """What turns centre and size as fractions into px."""
    span = [float(imgsz.width), float(imgsz.height)] * 2
    return torch.tensor(span, device=device)


def _corners(boxes: Tensor) -> Tensor:
    """Convert centre and size [n, 4] to left, top, right, bottom."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=1)


def _distances(corners: Tensor, points: Tensor) -> Tensor:
    """The distances [p, 4] from points [p, 2] to the four sides of boxes [p, 4]."""
    return torch.cat((points - corners[:, :2], corners[:, 2:] - points), dim=1)
