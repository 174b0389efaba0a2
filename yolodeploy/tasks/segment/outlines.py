"""Masks as polygons, for pages: simplified, and bounded in points, whatever a mask looks like."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from yolodeploy.tasks.segment.masks import Floats64, Masks
from yolodeploy.tasks.shapes import Point, point

MAX_PARTS, MAX_POINTS = 4, 40  # of a mask: its largest parts, and points of each
_FINE = 1 / 500  # of the longer side of the image, which pages show that small
_LEAST = 0.01  # of a mask: smaller parts are left out


def mask_outlines(masks: Masks, boxes: Floats64) -> Iterator[tuple[tuple[Point, ...], ...]]:
    """The outer edges of each mask; none of a mask without a pixel. Holes are not shown.

    `boxes` `[n, 4]` are left, top, right and bottom of where the masks lie.
    """
    for which in range(len(masks)):
        yield _outlines(masks, which, boxes[which]) if masks.areas[which] else ()


def _outlines(masks: Masks, which: int, box: Floats64) -> tuple[tuple[Point, ...], ...]:
    pixels, (left, top) = masks.pixels(which), (0, 0)
    edges = np.concatenate([np.floor(box[:2]) - 2, np.ceil(box[2:]) + 2])
    edges = edges.clip(0, (masks.width, masks.height) * 2).astype(int)
    part = pixels[edges[1] : edges[3], edges[0] : edges[2]]
    if np.count_nonzero(part) == masks.areas[which]:  # else the mask leaves its box
        pixels, (left, top) = part, edges[:2].tolist()
    contours, _ = cv2.findContours(
        pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    found = sorted(((cv2.contourArea(each), each) for each in contours), key=lambda pair: -pair[0])
    least = _LEAST * masks.areas[which]
    kept = [found[0], *(pair for pair in found[1:MAX_PARTS] if pair[0] >= least)]
    fine = max(masks.width, masks.height) * _FINE
    return tuple(
        tuple(point(x + left + 0.5, y + top + 0.5) for x, y in _simplified(contour, fine))
        for _, contour in kept
    )


def _simplified(contour: object, fine: float) -> list[list[float]]:
    """Points that lie no farther from the contour than so many pixels, or than it takes for few points."""
    array = np.asarray(contour)
    while True:
        points = cv2.approxPolyDP(array, fine, True)[:, 0]
        if len(points) <= MAX_POINTS:
            return [[float(x), float(y)] for x, y in points.tolist()]
        fine *= 1.25
