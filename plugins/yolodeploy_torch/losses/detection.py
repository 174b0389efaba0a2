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
from yolodeploy_torch.graph import Detection
from yolodeploy_torch.losses.anchors import Anchors, Grid, apart, expected, flat, taken
from yolodeploy_torch.losses.assigner import TOP_K, Matches, assign, find_candidates
from yolodeploy_torch.losses.iou import ciou
from yolodeploy_torch.model import Logits

# Plain distances hardly depend on theirs: the YOLO26 demo model, spoilt to mAP50-95 0.001 and trained for 5 epochs, reached
# 0.604, 0.603 and 0.606 with 0, 1.5 and 6.
BOX_GAIN, CLASS_GAIN, DISTANCE_GAIN = 7.5, 0.5, 1.5


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


class Positives(NamedTuple):
    """The anchors that learn an object: matches [p], the scores [p] that they should reach, and the sum of those.

    The sum is at least 1.
    """

    matches: Matches
    wanted: Tensor
    total: Tensor


class DetectionLoss:
    """The loss of one branch of a head; holds no weights."""

    def __init__(self, head: Detection, top_k: int = TOP_K) -> None:
        """An object trains `top_k` anchors at most: one, where the branch shall give no duplicates."""
        self._bins, self._top_k = head.reg_max, top_k
        self._least = head.strides[:2][-1]
        self._anchors = Anchors(head.strides)

    def __call__(self, logits: Logits, targets: Targets, imgsz: ImageShape) -> Losses:
        """The loss of the logits for images of this size.

        Computes in float32 whatever the logits are. Some or all of the images may have no objects.
        """
        return self.assigned(logits, targets, imgsz)[0]

    def assigned(
        self, logits: Logits, targets: Targets, imgsz: ImageShape
    ) -> tuple[Losses, Positives]:
        """The same, and the anchors that learn."""
        sides, classes = flat(logits.boxes), flat(logits.scores)
        anchors = self._anchors(imgsz, sides.device)
        targets = targets.to(sides.device)
        corners = corners_of(targets.boxes, imgsz)
        with torch.no_grad():
            matches = find_candidates(corners, targets.image, anchors.points, self._least)
            predicted = self._decode(taken(sides, matches), matches, anchors)
            score = classes[matches.image, targets.cls[matches.box], matches.anchor].sigmoid()
            matches, wanted = assign(
                matches, predicted, score, corners, anchors.points.shape[1], self._top_k
            )
            total = wanted.sum().clamp(min=1)
        sides = taken(sides, matches)
        truth = corners[matches.box]
        overlap = ciou(self._decode(sides, matches, anchors), truth)
        distances = (
            _distances(truth, anchors.points.T[matches.anchor])
            / anchors.steps[matches.anchor, None]
        )
        losses = Losses(
            BOX_GAIN * ((1 - overlap) * wanted).sum() / total,
            CLASS_GAIN * class_entropy(classes, targets, matches, wanted) / total,
            DISTANCE_GAIN * (apart(sides, distances) * wanted).sum() / total,
        )
        return losses, Positives(matches, wanted, total)

    def _decode(self, sides: Tensor, matches: Matches, anchors: Grid) -> Tensor:
        """The boxes [p, 4] as corners in px of the logits [p, 4 * bins]; they may be turned inside out."""
        distances = expected(sides.view(-1, 4, self._bins), 2) * anchors.steps[matches.anchor, None]
        centre = anchors.points.T[matches.anchor]
        return torch.cat((centre - distances[:, :2], centre + distances[:, 2:]), dim=1)


def class_entropy(classes: Tensor, targets: Targets, matches: Matches, wanted: Tensor) -> Tensor:
    """The summed cross-entropy of logits [N, nc, A] with the scores to reach [p], 0 where nothing is to be found."""
    reached = classes[matches.image, targets.cls[matches.box], matches.anchor]
    # the cross-entropy of logit x and target t is softplus(x) - x t, and most t are 0
    entropy: Tensor = functional.softplus(classes).sum() - (reached * wanted).sum()
    return entropy


def corners_of(boxes: Tensor, imgsz: ImageShape) -> Tensor:
    """Convert centre and size [n, 4] as fractions of the image to left, top, right, bottom in px."""
    span = [float(imgsz.width), float(imgsz.height)] * 2
    boxes = boxes * torch.tensor(span, device=boxes.device)
    centre, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=1)


def _distances(corners: Tensor, points: Tensor) -> Tensor:
    """The distances [p, 4] from points [p, 2] to the four sides of boxes [p, 4]."""
    return torch.cat((points - corners[:, :2], corners[:, 2:] - points), dim=1)
