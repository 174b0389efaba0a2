"""The detection loss of YOLOv8, from the papers that define its parts.

Boxes: complete IoU (https://arxiv.org/abs/1911.08287) and distribution focal loss
(https://arxiv.org/abs/2006.04388) of the anchors that task-aligned assignment gives a labelled box
(https://arxiv.org/abs/2108.07755), weighted by the score they should reach. Scores: binary
cross-entropy of all anchors and classes. All are divided by the sum of the scores to reach.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy.system import ImageShape
from yolodeploy_torch.model import Arch, Grid
from yolodeploy_torch.training.assigner import Matches, assign, find_candidates
from yolodeploy_torch.training.iou import ciou

BOX_GAIN, CLASS_GAIN, DFL_GAIN = 7.5, 0.5, 1.5
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
    dfl: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the parts."""
        return self.box + self.cls + self.dfl


class DetectionLoss:
    """The loss of a model's logits; holds no weights."""

    def __init__(self, arch: Arch) -> None:
        self._strides = arch.strides
        self._least = arch.strides[:2][-1]
        self._bins = arch.reg_max
        self._grids: dict[tuple[ImageShape, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, boxes: list[Tensor], scores: list[Tensor], targets: Targets, imgsz: ImageShape
    ) -> Losses:
        """The loss of what `Yolo.logits` gives for images of this size.

        Computes in float32 whatever the logits are. Some or all of the images may have no objects.
        """
        sides = torch.cat([level.float().flatten(2) for level in boxes], dim=2)
        classes = torch.cat([level.float().flatten(2) for level in scores], dim=2)
        points, steps = self._grid(imgsz, sides.device)
        targets = targets.to(sides.device)
        corners = _corners(targets.boxes * _span(imgsz, sides.device))
        with torch.no_grad():
            matches = find_candidates(corners, targets.image, points, self._least)
            predicted = self._decode(_at(sides, matches), matches, points, steps)
            score = classes[matches.image, targets.cls[matches.box], matches.anchor].sigmoid()
            matches, wanted = assign(matches, predicted, score, corners, points.shape[1])
            total = wanted.sum().clamp(min=1)
        sides = _at(sides, matches)
        truth = corners[matches.box]
        overlap = ciou(self._decode(sides, matches, points, steps), truth)
        distances = _distances(truth, points.T[matches.anchor]) / steps[matches.anchor, None]
        logits = classes[matches.image, targets.cls[matches.box], matches.anchor]
        # the cross-entropy of logit x and target t is softplus(x) - x t, and most t are 0
        entropy = functional.softplus(classes).sum() - (logits * wanted).sum()
        return Losses(
            BOX_GAIN * ((1 - overlap) * wanted).sum() / total,
            CLASS_GAIN * entropy / total,
            DFL_GAIN * (self._spread(sides, distances) * wanted).sum() / total,
        )

    def _grid(self, imgsz: ImageShape, device: torch.device) -> tuple[Tensor, Tensor]:
        """The anchors' centres [2, A] and strides [A] in px."""
        key = imgsz, device
        if key not in self._grids:
            grid = Grid(imgsz.height, imgsz.width, self._strides)
            self._grids[key] = (
                (grid.points * grid.steps)[0].to(device),
                grid.steps[0, 0].to(device),
            )
        return self._grids[key]

    def _decode(self, sides: Tensor, matches: Matches, points: Tensor, steps: Tensor) -> Tensor:
        """The boxes [p, 4] as corners in px of the logits [p, 4 * bins]: the mean of each side's distribution."""
        bins = torch.arange(self._bins, dtype=torch.float32, device=sides.device)
        spread = sides.view(-1, 4, self._bins).softmax(2)
        distances = (spread * bins).sum(2) * steps[matches.anchor, None]
        centre = points.T[matches.anchor]
        return torch.cat((centre - distances[:, :2], centre + distances[:, 2:]), dim=1)

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
