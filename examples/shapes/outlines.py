"""Where the shapes of the shapes task lie: outlines, keypoints and rotated boxes, in pixels.

Points are float64 [n, 2] (x, y); a whole pixel is 1 wide, and the image's top left corner is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CORNERS = (0, 3, 4, 5, 5)
STAR = 4
STAR_INNER = 0.45  # inner radius of a star, as a fraction of its radius
SIDES_OF_A_CIRCLE = 36  # of the polygon that stands for it
OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2  # what can be seen of a keypoint
FLIP = (0, 3, 2, 1)  # what each keypoint becomes in an image mirrored left to right


@dataclass(frozen=True)
class Thing:
    """Something to paint: an object of class ``kind``, or clutter where ``kind`` is None.

    ``radius`` is that of the circle through an object's corners, before the object is squeezed to
    1 / ``stretch`` across its axis.
    """

    kind: int | None
    x: float
    y: float
    radius: float
    turn: float
    stretch: float = 1.0

    @property
    def axis(self) -> float:
        """The direction, in radians, along which an object is longest: of a square, its side."""
        return self.turn + np.pi / 4 if self.kind == 2 else self.turn


def tips(thing: Thing) -> Floats:
    """Return the outermost points of an object that is not stretched: its corners [n, 2].

    Those of a circle are its highest, lowest, leftmost and rightmost points.
    """
    angles = np.arange(4) * np.pi / 2
    if thing.kind:
        angles = thing.turn + 2 * np.pi * np.arange(CORNERS[thing.kind]) / CORNERS[thing.kind]
    return np.stack([np.cos(angles), np.sin(angles)], 1) * thing.radius + (thing.x, thing.y)


def outline(thing: Thing) -> Floats:
    """Return the whole outline [n, 2] of an object as a polygon, which may leave the image."""
    assert thing.kind is not None
    count = CORNERS[thing.kind] or SIDES_OF_A_CIRCLE
    radii = np.full(count, thing.radius)
    if thing.kind == STAR:
        radii = np.tile([thing.radius, thing.radius * STAR_INNER], count)
    angles = thing.turn + 2 * np.pi * np.arange(len(radii)) / len(radii)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    return np.array((thing.x, thing.y)) + squeeze(points, thing.axis, 1 / thing.stretch)


def squeeze(points: Floats, axis: float, factor: float) -> Floats:
    """Scale points [..., 2] across a line through the origin in the direction ``axis``."""
    along, across = into_frame(points, axis)
    return out_of_frame(along, across * factor, axis)


def into_frame(points: Floats, axis: float) -> tuple[Floats, Floats]:
    """Return the coordinates of points [..., 2] along a direction and across it."""
    x, y = points[..., 0], points[..., 1]
    return x * np.cos(axis) + y * np.sin(axis), y * np.cos(axis) - x * np.sin(axis)


def out_of_frame(along: Floats, across: Floats, axis: float) -> Floats:
    """Undo ``into_frame``."""
    x = along * np.cos(axis) - across * np.sin(axis)
    return np.stack([x, along * np.sin(axis) + across * np.cos(axis)], -1)


def clip(points: Floats, size: int) -> Floats:
    """Cut a polygon [n, 2] off at the edges of an image (Sutherland and Hodgman, 1974)."""
    for column in (0, 1):
        for sign, limit in ((1.0, 0.0), (-1.0, -float(size))):
            points = cut(points, sign * points[:, column] - limit)
    return np.clip(points, 0.0, size)


def cut(points: Floats, inside: Floats) -> Floats:
    """Keep the part of a polygon [n, 2] where ``inside`` [n], linear between points, is >= 0."""
    kept: list[Floats] = []
    for here, there, at, to in zip(
        points, np.roll(points, -1, 0), inside, np.roll(inside, -1), strict=True
    ):
        if at >= 0:
            kept.append(here)
        if (at >= 0) != (to >= 0):
            kept.append(here + (there - here) * at / (at - to))
    return np.array(kept).reshape(-1, 2)


def extremes(thing: Thing) -> Floats:
    """Return the keypoints [4, 2] of an object: its top, right, bottom and left corners.

    A triangle has a corner that is two of them; a circle's are the ends of two diameters.
    """
    points = tips(thing)
    x, y = points.T
    return np.asarray(points[[y.argmin(), x.argmax(), y.argmax(), x.argmin()]])


def rotated_box(thing: Thing) -> Floats:
    """Return the corners [4, 2] of the box around an object that lies along its axis."""
    middle = (thing.x, thing.y)
    along, across = into_frame(outline(thing) - middle, thing.axis)
    a, b, c, d = along.min(), along.max(), across.min(), across.max()
    corners = out_of_frame(np.array([a, b, b, a]), np.array([c, c, d, d]), thing.axis)
    return np.asarray(corners + middle)
