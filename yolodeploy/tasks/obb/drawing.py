"""Draws rotated boxes into an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolodeploy.tasks.obb.boxes import Rotated, to_corners

if TYPE_CHECKING:
    from yolodeploy.data import Pixels

# Tableau's colours, RGB: people with colour vision deficiency tell them apart fairly well
_COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))  # fmt: skip
_FAR = 1 << 14  # pixels; OpenCV draws no lines to points far beyond


def draw_rotated(image: Pixels, found: Rotated, names: tuple[str, ...]) -> Pixels:
    """A copy of an image uint8 `[H, W, 3 or 1]` with boxes, and class and score at their first corner."""
    drawn = image.copy()
    side = min(image.shape[:2])
    thick, scale = max(1, side // 300), max(side / 1000, 0.3)
    corners = to_corners(found.boxes).round().clip(-_FAR, _FAR).astype(np.int32)
    rows = zip(corners, found.classes.tolist(), found.scores.tolist(), strict=True)
    for points, cls, score in reversed(list(rows)):  # the best on top
        colour = _COLOURS[cls % len(_COLOURS)]
        cv2.polylines(drawn, [points], isClosed=True, color=colour, thickness=thick)
        text, at = f"{names[cls]} {score:.2f}", points[0].tolist()
        cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return drawn
