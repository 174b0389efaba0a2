"""Labelled masks: polygons painted at the resolution of the original image, as Ultralytics paints them at the model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Polygon
from yolodeploy.tasks.detection import boxes_of
from yolodeploy.tasks.segment.masks import Masks, Packing

Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_POINTS = 1000  # of an outline, by Ultralytics' val; each pixel with one belongs to the mask


@dataclass(frozen=True, eq=False)
class SegmentTruth:
    """The labelled objects of one image: classes `[n]`, boxes `[n, 4]` (left, top, width, height in pixels), masks.

    A mask without pixels is a label that nobody can find, see `paint`.
    """

    classes: Ints
    boxes: Floats64
    masks: Masks


def paint(polygons: Sequence[Polygon], width: int, height: int) -> SegmentTruth:
    """The masks of polygons in an image of this size in pixels, in their order.

    A mask has every pixel that its outline touches, and what lies inside. Where masks overlap, the smaller one lies on
    top, and a pixel belongs to one object alone (`overlap_mask` of Ultralytics, with which models are trained). What
    lies outside the image is cut off. So a mask may have no pixel: if it lies outside, or below smaller ones.
    """
    outlines = [_Outline.of(polygon, width, height) for polygon in polygons]
    areas = np.array([np.count_nonzero(outline.inside) for outline in outlines], np.int64)
    owners = np.zeros((height, width), np.int32)
    for place in np.argsort(-areas, kind="stable").tolist():
        outline = outlines[place]
        owners[outline.where][outline.inside] = place + 1
    packing = Packing(height, width)
    for place, outline in enumerate(outlines):
        packing.add((owners[outline.where] == place + 1).T, outline.left, outline.top)
    boxes, classes = boxes_of([polygon.box for polygon in polygons], width, height)
    return SegmentTruth(classes, boxes, packing.masks())


@dataclass(frozen=True)
class _Outline:
    """A painted polygon: the flags `[rows, columns]` of the part of the image at `left`, `top` that it lies in."""

    left: int
    top: int
    inside: Flags

    @property
    def where(self) -> tuple[slice, slice]:
        """The part of the image."""
        down, across = self.inside.shape
        return slice(self.top, self.top + down), slice(self.left, self.left + across)

    @classmethod
    def of(cls, polygon: Polygon, width: int, height: int) -> _Outline:
        """Paint a polygon."""
        corners = np.array((*polygon.points, polygon.points[0])) * (width, height)
        along = np.linspace(0, len(corners) - 1, _POINTS)
        line = np.stack([np.interp(along, np.arange(len(corners)), axis) for axis in corners.T], 1)
        points = np.floor(line).astype(np.int64)
        left, top = np.clip(points.min(0), 0, (width, height)).tolist()
        right, bottom = np.clip(points.max(0) + 1, 0, (width, height)).tolist()
        canvas = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.uint8)
        if canvas.size:
            cv2.fillPoly(canvas, [(points - (left, top)).astype(np.int32)], (1,))
        return cls(left, top, canvas.astype(np.bool_))
