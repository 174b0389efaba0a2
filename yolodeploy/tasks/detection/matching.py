"""How well detections fit labelled boxes: by IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Box
from yolodeploy.tasks.average_precision import Precision, precision
from yolodeploy.tasks.matching import Fits, Floats64, Ints, Matches

if TYPE_CHECKING:
    from yolodeploy.tasks.detection.postprocess import Detections


@dataclass(frozen=True)
class Truth:
    """The labelled objects of one image, and the size of the image in pixels."""

    boxes: tuple[Box, ...]
    width: int
    height: int


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int
) -> Precision:
    """AP of detections against labels, image by image in the same order."""
    return precision(matches(truths, found, classes))


def matches(truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> Matches:
    """Detections matched with labelled boxes, image by image in the same order."""
    pairs = zip(truths, found, strict=True)
    return Matches((_fits(truth, detections) for truth, detections in pairs), classes)


def _fits(truth: Truth, found: Detections) -> Fits:
    labels, classes = boxes_of(truth.boxes, truth.width, truth.height)
    return box_fits(labels, classes, found)


def box_fits(labels: Floats64, classes: Ints, found: Detections) -> Fits:
    """Detections of one image against boxes `[m, 4]`, left, top, width and height in pixels, by IoU.

    An object's size is the area of its box.
    """
    ours = sides_of(found.boxes)
    areas, our_areas = labels[:, 2] * labels[:, 3], ours[:, 2] * ours[:, 3]
    return Fits(classes, areas, found.classes, our_areas, found.scores, box_iou(ours, labels))


def sides_of(corners: NDArray[np.floating]) -> Floats64:
    """Left, top, width and height `[n, 4]` of boxes given as left, top, right and bottom."""
    wide = corners.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def corners_of(boxes: Floats64) -> Floats64:
    """Left, top, right and bottom `[n, 4]` of boxes given as left, top, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def boxes_of(boxes: Sequence[Box], width: int, height: int) -> tuple[Floats64, Ints]:
    """Left, top, width and height of labels `[n, 4]` in pixels of an image of this size, and their classes."""
    table = np.array([(b.x, b.y, b.width, b.height) for b in boxes], np.float64).reshape(-1, 4)
    table *= (width, height) * 2
    table[:, :2] -= table[:, 2:] / 2
    return table, np.array([box.cls for box in boxes], np.int64)


def box_iou(one: Floats64, two: Floats64) -> Floats64:
    """IoU `[n, m]` of boxes given as left, top, width and height."""
    ends = np.minimum(one[:, None, :2] + one[:, None, 2:], two[:, :2] + two[:, 2:])
    sides = (ends - np.maximum(one[:, None, :2], two[:, :2])).clip(0)
    both = sides[..., 0] * sides[..., 1]
    union = (one[:, 2] * one[:, 3])[:, None] + two[:, 2] * two[:, 3] - both
    result: Floats64 = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return result
