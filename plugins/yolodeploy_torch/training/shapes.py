"""What is labelled of objects beside upright boxes, how it moves with the image, and what the losses want of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Box, Corners, Dataset, Label, Letterboxed, Pixels, Polygon, Pose
from yolodeploy.tasks.obb import smallest_rectangle

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
Matrix = NDArray[np.float64]

_PARTS = 4  # bits of a pixel in which outlines are painted
_OUTLINE = 3  # points at least


@dataclass(frozen=True)
class Shapes:
    """The points [m, 2] of every object in px: an outline, the four corners of a rotated box, or keypoints.

    Of keypoints, `seen` [n, K] are the visibilities, 0 for one without a label, and `mirrored` says which keypoint each
    is in a mirrored image; empty if no other.
    """

    points: tuple[Floats64, ...]
    seen: Floats64 | None = None
    mirrored: tuple[int, ...] = ()

    def warped(self, warp: Matrix) -> Shapes:
        """Where a matrix [3, 3] takes them; keypoints change their places if it mirrors."""
        points = tuple(each @ warp[:2, :2].T + warp[:2, 2] for each in self.points)
        if not self.mirrored or np.linalg.det(warp[:2, :2]) > 0:
            return replace(self, points=points)
        order = list(self.mirrored)
        seen = None if self.seen is None else self.seen[:, order]
        return replace(self, points=tuple(each[order] for each in points), seen=seen)

    def cut(self, size: NDArray[np.int64]) -> Shapes:
        """What is left in an image of this width and height: outlines end at its sides, keypoints beyond are unlabelled."""
        if self.seen is None:
            return replace(self, points=tuple(_cut_outline(each, size) for each in self.points))
        inside = [((each >= 0) & (each <= size)).all(1) for each in self.points]
        return replace(self, seen=self.seen * np.array(inside).reshape(self.seen.shape))

    def taken(self, stays: Flags) -> Shapes:
        """Those of some of the objects."""
        points = tuple(each for each, stay in zip(self.points, stays, strict=True) if stay)
        return replace(self, points=points, seen=None if self.seen is None else self.seen[stays])

    def bounds(self) -> Floats:
        """The upright boxes around the points: left, top, right, bottom; of nothing all 0."""
        boxes = [(*each.min(0), *each.max(0)) if len(each) else (0,) * 4 for each in self.points]
        return np.array(boxes, np.float32).reshape(-1, 4)


def joined(parts: Sequence[Shapes]) -> Shapes:
    """Those of several images in one."""
    points = tuple(each for part in parts for each in part.points)
    seen = [part.seen for part in parts if part.seen is not None]
    return replace(parts[0], points=points, seen=np.concatenate(seen) if seen else None)


def shapes_of(labels: Sequence[Label], view: Dataset, box: Letterboxed) -> Shapes | None:
    """The shapes of the labels of a letterboxed image; None where the task has none."""
    if view.task not in ("segment", "pose", "obb"):
        return None
    places = [_places(label) for label in labels]
    scale = np.array((box.width, box.height)) * box.scale
    points = tuple(each[:, :2] * scale + (box.left, box.top) for each in places)
    if view.keypoints is None or view.task != "pose":
        return Shapes(points)
    seen = np.array([each[:, 2] for each in places]).reshape(-1, view.keypoints.count)
    return Shapes(points, seen, view.keypoints.flip)


def _places(label: Label) -> Floats64:
    """The points of a label as fractions of the image, those of a pose with their visibilities."""
    match label:
        case Pose():
            return np.array(label.keypoints, np.float64).reshape(-1, 3)
        case Polygon() | Corners():
            return np.array(label.points, np.float64)
        case Box():
            raise ValueError("a box has no points")


def _cut_outline(points: Floats64, size: NDArray[np.int64]) -> Floats64:
    """The part of an outline in an image, side after side (Sutherland and Hodgman, 1974)."""
    for axis, (limit, sign) in ((a, side) for a in (0, 1) for side in ((0, 1), (size[a], -1))):
        depth = sign * (points[:, axis] - limit)
        if (depth >= 0).all():
            continue
        after, depth_after = np.roll(points, -1, 0), np.roll(depth, -1)
        crosses = (depth >= 0) != (depth_after >= 0)
        share = np.where(crosses, depth / np.where(crosses, depth - depth_after, 1), 0)
        crossing = points + share[:, None] * (after - points)
        both = np.stack((points, crossing), axis=1).reshape(-1, 2)
        points = both[np.stack((depth >= 0, crosses), axis=1).ravel()]
    return points


def rectangles(shapes: Shapes) -> Floats:
    """The rotated boxes [n, 5] around four corners each, as the task measures them: cx, cy, w, h in px, angle."""
    found = [
        smallest_rectangle(Corners(0, tuple(map(tuple, each))), 1, 1) for each in shapes.points
    ]
    return np.array(found, np.float32).reshape(-1, 5)


def keypoints(shapes: Shapes, count: int) -> Floats:
    """So many keypoints of each object, [n, K, 3]: x and y in px, visibility."""
    places = np.array(shapes.points, np.float64).reshape(-1, count, 2)
    seen = np.zeros((len(places), count)) if shapes.seen is None else shapes.seen
    return np.concatenate((places, seen[..., None]), axis=2).astype(np.float32)


def masks(shapes: Shapes, size: tuple[int, int], step: int) -> Pixels:
    """The masks uint8 [n, height / step, width / step] of outlines in an image of this height and width.

    A pixel belongs to a mask that fills half of it. Where masks overlap, the smaller one lies on top, and a pixel
    of the image belongs to one object alone, as in the measure.
    """
    height, width = size
    owners = np.zeros(size, np.int32)
    areas = [_area(outline) for outline in shapes.points]
    for place in np.argsort(np.negative(areas), kind="stable").tolist():
        outline = shapes.points[place]
        if len(outline) >= _OUTLINE:
            parts = np.rint((outline - 0.5) * (1 << _PARTS)).astype(np.int32)
            cv2.fillPoly(owners, [parts], (place + 1,), shift=_PARTS)
    found = np.zeros((len(areas), height // step, width // step), np.uint8)
    for place, (left, top, right, bottom) in enumerate(shapes.bounds()):
        rows, columns = _cells(top, bottom, height, step), _cells(left, right, width, step)
        part = owners[
            rows.start * step : rows.stop * step, columns.start * step : columns.stop * step
        ]
        counts = rows.stop - rows.start, step, columns.stop - columns.start, step
        mine = (part == place + 1).reshape(counts)
        found[place, rows, columns] = mine.mean((1, 3)) >= 0.5
    return found


def _area(outline: Floats64) -> float:
    return cv2.contourArea(outline.astype(np.float32)) if len(outline) >= _OUTLINE else 0.0


def _cells(first: float, last: float, size: int, step: int) -> slice:
    """The cells of an axis that a range of px touches."""
    start, stop = (int(np.clip(edge, 0, size)) for edge in (first - step, last + step))
    return slice(start // step, stop // step)
