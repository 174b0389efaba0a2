"""A shape: one object in an image as plain data. Imports nothing heavy, for pages and `verify` read shapes, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Point: TypeAlias = tuple[float, float]
Line: TypeAlias = tuple[float, float, float, float]
Mark: TypeAlias = Literal["lost", "added", "changed"]

MAX_NAME = 200  # characters of a class name
_FAR = 1e5  # pixels: what a box that leaves the image has at most


@dataclass(frozen=True)
class Shape:
    """One object: its class, and what it looks like in pixels of the original image.

    `outlines` are closed polygons: one of four points for a box, one or more for a mask. `lines` (x and y of both ends)
    and `points` are a skeleton. Of the class of a whole image there is none of these. `score` is in 0..1, None for a label.
    `mark` says how source and artifact differ: the source's is "lost" by the artifact, the artifact's is "added", or
    the other gives what is there another class ("changed").
    """

    name: str
    score: float | None = None
    outlines: tuple[tuple[Point, ...], ...] = ()
    lines: tuple[Line, ...] = ()
    points: tuple[Point, ...] = ()
    mark: Mark | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "class": self.name,
            "score": self.score,
            "outlines": self.outlines,
            "lines": self.lines,
            "points": self.points,
            "mark": self.mark,
        }


def class_name(names: Sequence[str], cls: int) -> str:
    """The name of a class, cut where it is too long for a picture, and text that every file can hold."""
    return names[cls][:MAX_NAME].encode("utf-8", "replace").decode("utf-8")


def point(x: float, y: float) -> Point:
    """A point as pictures have it: a tenth of a pixel, and never far out."""
    return _near(x), _near(y)


def _near(value: float) -> float:
    return 0.0 if math.isnan(value) else round(min(max(value, -_FAR), _FAR), 1)
