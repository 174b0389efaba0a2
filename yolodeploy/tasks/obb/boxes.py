"""Rotated boxes: their corners, how similar two are, and files of them.

A box is `(cx, cy, w, h, angle)`: centre and sides in pixels, and the angle in radians by which the side w is turned from
the x axis towards the y axis, which points down: clockwise as one looks at the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.obb.contract import PROB_IOU_EPS
from yolodeploy.tasks.shapes import Point, point

if TYPE_CHECKING:
    from yolodeploy.data import Letterboxed

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]

EPS = PROB_IOU_EPS
_FARTHEST = 100.0  # the greatest distance that is told apart


@dataclass(frozen=True)
class Rotated:
    """Rotated boxes found in one image, best first.

    `boxes` is float32 `[n, 5]`: centre x and y, w and h in pixels, and the angle in radians as the model gives it, of
    any size; `scores` float32 `[n]` in 0..1; `classes` int64 `[n]`.
    """

    boxes: Floats
    scores: Floats
    classes: Ints

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: NDArray[np.generic]) -> Rotated:
        """Some of them, by their places or by flags."""
        return Rotated(self.boxes[which], self.scores[which], self.classes[which])


def to_corners(boxes: NDArray[np.floating]) -> Floats64:
    """The four corners `[n, 4, 2]` of boxes `[n, 5]`, in order around the box."""
    x, y, width, height, angle = boxes.astype(np.float64).T
    across = np.stack([np.cos(angle), np.sin(angle)], axis=1) * width[:, None] / 2
    down = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * height[:, None] / 2
    centre = np.stack([x, y], axis=1)
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return np.stack([centre + i * across + j * down for i, j in signs], axis=1)


def rotated_outlines(boxes: NDArray[np.floating]) -> list[tuple[tuple[Point, ...], ...]]:
    """The outline of each box `[n, 5]`, for pictures."""
    return [(tuple(point(x, y) for x, y in corners),) for corners in to_corners(boxes).tolist()]


def prob_iou(one: NDArray[np.floating], two: NDArray[np.floating]) -> Floats64:
    """The similarity in 0..1 of boxes `[..., 5]` and `[..., 5]`, whose other axes broadcast.

    ProbIoU of Llerena et al., "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection"
    (2021): boxes are normal distributions with the variances w^2 / 12 and h^2 / 12 along their sides, and 1 less
    their Hellinger distance is how similar they are. `EPS` where Ultralytics has it.
    """
    a1, b1, k1 = _covariance(one)
    a2, b2, k2 = _covariance(two)
    a, b, k = a1 + a2, b1 + b2, k1 + k2
    dx, dy = (one[..., axis].astype(np.float64) - two[..., axis] for axis in (0, 1))
    area = a * b - k**2
    shift = (0.25 * (a * dy**2 + b * dx**2) - 0.5 * k * dx * dy) / (area + EPS)
    both = (a1 * b1 - k1**2).clip(0) * (a2 * b2 - k2**2).clip(0)
    shape = 0.5 * np.log(area.clip(0) / (4 * np.sqrt(both) + EPS) + EPS)
    distance = (shift + shape).clip(EPS, _FARTHEST)
    result: Floats64 = 1 - np.sqrt(1 - np.exp(-distance) + EPS)
    return result


def _covariance(boxes: NDArray[np.floating]) -> tuple[Floats64, Floats64, Floats64]:
    """Variance of x, of y, and their covariance."""
    wide = boxes.astype(np.float64)
    p, q, angle = wide[..., 2] ** 2 / 12, wide[..., 3] ** 2 / 12, wide[..., 4]
    cos, sin = np.cos(angle), np.sin(angle)
    return p * cos**2 + q * sin**2, p * sin**2 + q * cos**2, (p - q) * cos * sin


def to_original(boxes: Floats, box: Letterboxed) -> Floats:
    """Map boxes `[n, 5]` from letterboxed to original pixels; they are not clipped, and the angle stays.

    In a stretched image the angle is off: a turned rectangle becomes no rectangle.
    """
    mapped = boxes.astype(np.float32)
    mapped[:, :2] -= np.array([box.left, box.top], np.float32)
    mapped[:, :4] /= np.array(box.scale * 2, np.float32)
    return mapped
