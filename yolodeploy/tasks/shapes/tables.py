"""Shapes from the tables that tasks keep of an image's objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.shapes.shape import Point, Shape, class_name, point

Outlines = tuple[tuple[Point, ...], ...]


def box_outlines(corners: NDArray[np.floating]) -> list[Outlines]:
    """The outline of each box `[n, 4]` (left, top, right, bottom in pixels), clockwise."""
    return [
        ((point(left, top), point(right, top), point(right, bottom), point(left, bottom)),)
        for left, top, right, bottom in corners.tolist()
    ]


def shapes_of(
    names: Sequence[str],
    classes: NDArray[np.integer],
    scores: NDArray[np.floating] | None,
    outlines: Iterable[Outlines],
) -> tuple[Shape, ...]:
    """A shape for each object: classes `[n]`, scores `[n]` (None: labels), and an outline for each."""
    given = [None] * len(classes) if scores is None else scores.astype(float).round(4).tolist()
    rows = zip(classes.tolist(), given, outlines, strict=True)
    return tuple(Shape(class_name(names, cls), score, outline) for cls, score, outline in rows)
