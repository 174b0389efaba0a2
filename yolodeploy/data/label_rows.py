"""What a row of a label file says, by task.

As in Ultralytics 8.x, whose tolerance was found by experiment: coordinates may lie up to 0.01 outside of 0..1 and
are taken as they are, sides may not be negative, and of a polygon or of four corners only the bounding box is looked
at. In a data set with keypoints every task but pose takes a row of that many numbers for its box.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from yolodeploy.data.keypoints import KeypointShape

TOLERANCE = 0.01  # how far outside of 0..1 a coordinate may lie
_LEAST, _MOST = array("f", (-TOLERANCE, 1 + TOLERANCE))  # Ultralytics compares 32-bit numbers
_CORNERS = 9  # numbers of a row with four corners

Points: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Box:
    """A labelled object: its class index, then its centre and size as fractions of the image (0..1)."""

    cls: int
    x: float
    y: float
    width: float
    height: float

    @property
    def box(self) -> Box:
        """Itself, as every label has a box."""
        return self


@dataclass(frozen=True)
class Polygon:
    """A labelled mask: its class index, then three points or more, each (x, y) as fractions of the image.

    The last point is joined to the first. Points may lie outside of the image.
    """

    cls: int
    points: Points

    @property
    def box(self) -> Box:
        """The bounding box of the points."""
        return _bounding_box(self.cls, self.points)


@dataclass(frozen=True)
class Pose:
    """A labelled pose: its box, then each keypoint as (x, y, visibility), x and y as fractions of the image.

    A visibility of 0 means that the keypoint is not labelled. Keypoints of two numbers have visibility 1.
    """

    box: Box
    keypoints: tuple[tuple[float, float, float], ...]

    @property
    def cls(self) -> int:
        """The class index."""
        return self.box.cls


@dataclass(frozen=True)
class Corners:
    """A labelled rotated box: its class index, then its four corners in order, each (x, y) as fractions of the image.

    Corners need not be at right angles; the rectangle of the least area around them, in pixels, is meant.
    """

    cls: int
    points: Points

    @property
    def box(self) -> Box:
        """The upright box around the corners."""
        return _bounding_box(self.cls, self.points)


Label: TypeAlias = Box | Polygon | Pose | Corners


@dataclass(frozen=True)
class RowFormat:
    """What the rows of a data set must be: by its task, for so many classes, with the keypoints that it states."""

    task: str
    classes: int
    keypoints: KeypointShape | None = None


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a row, and what it looks like if it may be a row of another task ("a box"), else empty."""

    text: str
    other: str = ""


def with_class(label: Label, cls: int) -> Label:
    """The same object with another class index."""
    if isinstance(label, Pose):
        return replace(label, box=replace(label.box, cls=cls))
    return replace(label, cls=cls)


def parse_row(fields: Sequence[str], form: RowFormat) -> tuple[Label, bytes] | Wrong:
    """Parse a row; returns its object with the numbers that tell it from others, or what is wrong with the row."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        return Wrong(f"`{_quoted(fields)}` must be a row of numbers")
    if form.task != "pose" and form.keypoints and len(values) == form.keypoints.columns:
        values = values[:5]
    if wrong := _wrong_columns(len(values), len(fields), form):
        return wrong
    cls, rest = values[0], values[1:]
    if cls != int(cls) or not 0 <= cls < form.classes:
        return Wrong(
            f"class {fields[0][:20]} is out of range; data.yaml names {form.classes} classes (0..{form.classes - 1})"
        )
    label = _label(int(cls), rest, form)
    if text := _out_of_range(label, fields[1:]):
        return Wrong(text)
    # rows that differ in less than 32-bit numbers can tell are one to Ultralytics
    return label, array("f", map(_single, values)).tobytes()


def _label(cls: int, values: Sequence[float], form: RowFormat) -> Label:
    if form.task == "pose" and form.keypoints:
        step = form.keypoints.numbers
        xs, ys = values[4::step], values[5::step]
        seen = values[6::step] if step == 3 else [1.0] * len(xs)
        return Pose(Box(cls, *values[:4]), tuple(zip(xs, ys, seen, strict=True)))
    if len(values) == 4:
        return Box(cls, *values)
    points = tuple(zip(values[::2], values[1::2], strict=True))
    if form.task == "detect":
        return _bounding_box(cls, points)
    return Corners(cls, points) if form.task == "obb" else Polygon(cls, points)


def _wrong_columns(count: int, written: int, form: RowFormat) -> Wrong | None:
    """Why a row of that many numbers cannot be one of the task; None if it can."""
    polygon = count >= 7 and count % 2 == 1
    if form.task == "detect":
        if count == 5 or polygon:
            return None
        must = "`class x y width height` or `class` and a polygon"
        return Wrong(f"a row must be {must}, but here are {count} numbers")
    if form.task == "segment":
        right = polygon
        must = "`class` and a polygon of three points or more (`class x1 y1 x2 y2 x3 y3 ...`)"
    elif form.task == "obb":
        right = count == _CORNERS
        must = "`class` and four corners (`class x1 y1 x2 y2 x3 y3 x4 y4`, 9 numbers)"
    else:
        shape = form.keypoints
        right = shape is not None and count == shape.columns
        columns = f"{shape}, {shape.columns} numbers" if shape else "kpt_shape"
        must = f"`class x y width height` and the keypoints ({columns})"
    if right:
        return None
    other, article = _looks_like(count, written), "an" if form.task == "obb" else "a"
    hint = f", as of {other}" if other else ""
    if form.task == "segment" and written == 5:
        hint += " or a polygon of two points"
    return Wrong(
        f"{article} {form.task} row must be {must}, but here are {written} numbers{hint}", other
    )


def _looks_like(count: int, written: int) -> str:
    """What a row of so many numbers may be, of those written; empty if nothing in particular."""
    if count != written:
        return "a pose"
    known = {5: "a box", 6: "a box and an angle", _CORNERS: "a rotated box or a polygon"}
    return known.get(count, "a polygon" if count >= 7 and count % 2 == 1 else "")


def _out_of_range(label: Label, fields: Sequence[str]) -> str:
    """What is wrong with the coordinates of an object; empty if nothing is."""
    box = label.box
    coordinates = [box.x, box.y, box.width, box.height]
    if isinstance(label, Pose):
        coordinates += (value for point in label.keypoints for value in point[:2])
    if not _LEAST <= _single(min(coordinates)) <= _single(max(coordinates)) <= _MOST:
        keypoints = ", keypoints without a label too" if isinstance(label, Pose) else ""
        return f"`{_quoted(fields)}` must be fractions of the image, each in 0..1{keypoints}"
    if min(box.width, box.height) < 0:
        return f"`{_quoted(fields)}` has a negative width or height"
    if isinstance(label, Pose) and min(point[2] for point in label.keypoints) < 0:
        return f"`{_quoted(fields)}` has a negative visibility; write 0 (not labelled), 1 (hidden) or 2 (visible)"
    return ""


def _bounding_box(cls: int, points: Points) -> Box:
    xs, ys = zip(*points, strict=True)
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return Box(cls, min(xs) + width / 2, min(ys) + height / 2, width, height)


def _single(value: float) -> float:
    """As a 32-bit number; what is far out of range stays as it is."""
    return array("f", (value,))[0] if -2 < value < 2 else value


def _quoted(fields: Sequence[str]) -> str:
    text = " ".join(fields)[:60]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
