"""Masks as polygons, for pages: simplified, and bounded in points, whatever a mask looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from yolodeploy.tasks.segment.masks import Masks
from yolodeploy.tasks.shapes import Point, point

MAX_PARTS, MAX_POINTS = 4, 40  # of a mask: its largest parts, and points of each
_FINE = 1000  # pixels of the longer side of an image, at which masks of larger ones are looked at
_OFF = (
    2 / _FINE
)  # of the longer side, by which a polygon may lie beside the edge: pages show images that small
_LEAST = 0.01  # of the largest part: smaller ones are left out


def mask_outlines(masks: Masks) -> Iterator[tuple[tuple[Point, ...], ...]]:
    """The outer edges of each mask; none of a mask without a pixel. Holes are not shown."""
    for which in range(len(masks)):
        yield _outlines(masks, which) if masks.areas[which] else ()


def _outlines(masks: Masks, which: int) -> tuple[tuple[Point, ...], ...]:
    flags, left, top = masks.part(which)
    step = -(-max(masks.width, masks.height) // _FINE)
    step = step if flags[::step, ::step].any() else 1
    pixels = np.ascontiguousarray(flags[::step, ::step], np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sizes = np.array([cv2.contourArea(each) for each in contours])
    order = np.argsort(-sizes, kind="stable")[:MAX_PARTS]
    kept = [place for place in order.tolist() if sizes[place] >= _LEAST * sizes[order[0]]]
    off = max(masks.width, masks.height) / step * _OFF
    return tuple(
        tuple(
            point(left + (x + 0.5) * step, top + (y + 0.5) * step)
            for x, y in _simplified(contours[place], off)
        )
        for place in kept
    )


def _simplified(contour: Any, off: float) -> list[list[int]]:
    """Points `[n, 2]` from which the contour lies no farther than so many pixels, or than it takes for few points."""
    while True:
        points: list[list[int]] = cv2.approxPolyDP(contour, off, True)[:, 0].tolist()
        if len(points) <= MAX_POINTS:
            return points
        off *= 1.25
