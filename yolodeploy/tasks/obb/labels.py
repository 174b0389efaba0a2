"""Labelled rotated boxes: the smallest rectangle around four corners, and how well what was found fits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from yolodeploy.data import Corners
from yolodeploy.tasks.matching import Fits, Matches
from yolodeploy.tasks.obb.boxes import Floats64, Ints, Rotated, prob_iou


@dataclass(frozen=True)
class Truth:
    """The labelled rotated boxes of one image: `boxes` `[n, 5]` in pixels of the original, and `classes` `[n]`."""

    boxes: Floats64
    classes: Ints


def truth_of(labels: Sequence[Corners], width: int, height: int) -> Truth:
    """Labels of an image of this size in pixels."""
    boxes = [smallest_rectangle(label, width, height) for label in labels]
    classes = np.array([label.cls for label in labels], np.int64)
    return Truth(np.array(boxes, np.float64).reshape(-1, 5), classes)


def smallest_rectangle(
    label: Corners, width: int, height: int
) -> tuple[float, float, float, float, float]:
    """The rectangle of the least area around the corners: cx, cy, w, h in pixels, w >= h, and the angle of w.

    The angle lies in [-pi/4, 3 pi/4), as in Ultralytics, so that no angle that is common lies at its ends.
    """
    points = np.array(label.points) * (width, height)
    (x, y), (across, down), degrees = cv2.minAreaRect(points.astype(np.float32))
    if across < down:
        across, down, degrees = down, across, degrees + 90
    angle = math.radians((degrees + 45) % 180 - 45)
    return x, y, across, down, angle


def confident_truth(found: Rotated, confidence: float) -> Truth:
    """What was found above a confidence, as labels."""
    kept = found.take(found.scores > confidence)
    boxes = kept.boxes.astype(np.float64)
    boxes[:, 2:4] = abs(boxes[:, 2:4])
    return Truth(boxes, kept.classes)


def matches(truths: Sequence[Truth], found: Sequence[Rotated], classes: int) -> Matches:
    """Found boxes matched with labelled ones by ProbIoU, image by image in the same order.

    An object's size is w times h. Nothing depends on the scale of the image, so it does not matter that
    Ultralytics' `val` compares in pixels of the input.
    """
    pairs = zip(truths, found, strict=True)
    return Matches((_fits(truth, boxes) for truth, boxes in pairs), classes)


def _fits(truth: Truth, found: Rotated) -> Fits:
    ours = found.boxes.astype(np.float64)
    areas, our_areas = np.prod(truth.boxes[:, 2:4], axis=1), abs(np.prod(ours[:, 2:4], axis=1))
    similarity = prob_iou(ours[:, None], truth.boxes[None])
    return Fits(truth.classes, areas, found.classes, our_areas, found.scores, similarity)
