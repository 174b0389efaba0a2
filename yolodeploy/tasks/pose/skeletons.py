"""Poses as lines and points, for pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.pose.matching import COCO_SPREADS
from yolodeploy.tasks.shapes import Line, Shape, point

# Limbs of COCO's 17 keypoints; what other keypoints are joined by is not known.
_LIMBS = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
    *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)
MAX_POINTS = 100  # of an object


def with_skeletons(
    shapes: tuple[Shape, ...], keypoints: NDArray[np.floating], least: float
) -> tuple[Shape, ...]:
    """Boxes with their keypoints `[n, K, 3]` whose visibility is above `least`; the 17 of COCO are joined to limbs."""
    return tuple(
        _with_skeleton(shape, each, least)
        for shape, each in zip(shapes, keypoints.astype(float), strict=True)
    )


def _with_skeleton(shape: Shape, keypoints: NDArray[np.floating], least: float) -> Shape:
    points = [point(x, y) for x, y in keypoints[:, :2].tolist()]
    seen = (keypoints[:, 2] > least).tolist()
    limbs = _LIMBS if len(points) == len(COCO_SPREADS) else ()
    lines: tuple[Line, ...] = tuple(
        (*points[start], *points[end]) for start, end in limbs if seen[start] and seen[end]
    )
    shown = [each for each, is_seen in zip(points, seen, strict=True) if is_seen][:MAX_POINTS]
    return replace(shape, lines=lines, points=tuple(shown))
