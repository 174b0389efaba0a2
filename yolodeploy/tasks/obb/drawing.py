"""Draws rotated boxes into an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolodeploy.tasks.detection import colour_of, line_width, write
from yolodeploy.tasks.obb.boxes import Rotated, to_corners

if TYPE_CHECKING:
    from yolodeploy.data import Pixels

_FAR = 1 << 14  # pixels; OpenCV draws no lines to points far beyond


def draw_rotated(image: Pixels, found: Rotated, names: tuple[str, ...]) -> Pixels:
    """A copy of an image uint8 `[H, W, 3 or 1]` with boxes, and class and score at their first corner."""
    drawn = image.copy()
    corners = to_corners(found.boxes).round().clip(-_FAR, _FAR).astype(np.int32)
    rows = zip(corners, found.classes.tolist(), found.scores.tolist(), strict=True)
    for points, cls, score in reversed(list(rows)):  # the best on top
        cv2.polylines(drawn, [points], True, colour_of(cls), line_width(image))
        left, top = points[0].tolist()
        write(drawn, f"{names[cls]} {score:.2f}", (left, top), colour_of(cls))
    return drawn
