"""What a detection head decodes to: boxes from distances, and scores, in primitives.

A box side is a distance in cells from an anchor: the mean of a distribution over `reg_max` bins (Generalized Focal
Loss, https://arxiv.org/abs/2006.04388), or with one bin the number itself. The sides of a rotated box are those of an
upright one that is turned about the anchor, so that its centre turns too.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

import numpy as np

from yolodeploy_torch.graph.builder import NodeBuilder
from yolodeploy_torch.graph.heads import Branch
from yolodeploy_torch.graph.operations import (
    Arithmetic,
    Concat,
    Function,
    Reshape,
    Softmax,
    Split,
    Transpose,
)
from yolodeploy_torch.graph.weighted import Conv

_Maps = tuple[str, ...]
T = TypeVar("T")
Sum = Literal["add", "sub", "mul", "div"]
Curve = Literal["sigmoid", "sin", "cos", "exp"]


class Extras(NamedTuple):
    """What a task has per anchor beside box and scores: a map per level, and what they decode to [N, E, A]."""

    maps: _Maps
    decoded: str


class Found(NamedTuple):
    """Maps of boxes and scores, the boxes as rows have them, and as centre and size in px."""

    boxes: _Maps
    scores: _Maps
    corners: str
    centred: str


def decoded(
    to: NodeBuilder[T],
    prefix: str,
    boxes: _Maps,
    scores: _Maps,
    grid: str,
    extras: Extras | None = None,
) -> Branch:
    """Turn the maps of one head into corners and scores, and both, with extras if there are any, into its output."""
    sides = _distances(to, prefix, flat(to, f"{prefix}boxes", boxes), to.channels(boxes[0]) // 4)
    near, far = f"{prefix}sides.0", f"{prefix}sides.1"
    to.add(Split(name=f"{prefix}sides", inputs=(sides,), sizes=(2, 2)))
    first = combine(to, f"{prefix}first", "sub", f"{grid}.points", near)
    second = combine(to, f"{prefix}second", "add", f"{grid}.points", far)
    steps = f"{grid}.steps"
    both = to.concat(f"{prefix}cells", (first, second))
    corners = combine(to, f"{prefix}corners", "mul", both, steps)
    total = combine(to, f"{prefix}total", "add", first, second)
    size = combine(to, f"{prefix}size", "sub", second, first)
    half = scaled(to, f"{prefix}centre", total, "div", 2.0)
    centred = to.concat(f"{prefix}centred", (half, size))
    found = combine(to, f"{prefix}found", "mul", centred, steps)
    return _branch(to, prefix, Found(boxes, scores, corners, found), extras)


def rotated(
    to: NodeBuilder[T], prefix: str, boxes: _Maps, scores: _Maps, grid: str, angles: Extras
) -> Branch:
    """The same for boxes that are turned by angles [N, 1, A] in radians; rows have them as centre and size too."""
    sides = _distances(to, prefix, flat(to, f"{prefix}boxes", boxes), to.channels(boxes[0]) // 4)
    near, far = f"{prefix}sides.0", f"{prefix}sides.1"
    to.add(Split(name=f"{prefix}sides", inputs=(sides,), sizes=(2, 2)))
    apart = combine(to, f"{prefix}apart", "sub", far, near)
    to.add(
        Split(
            name=f"{prefix}shift",
            inputs=(scaled(to, f"{prefix}half", apart, "div", 2.0),),
            sizes=(1, 1),
        )
    )
    across, down = f"{prefix}shift.0", f"{prefix}shift.1"
    cosine = function(to, f"{prefix}cosine", "cos", angles.decoded)
    sine = function(to, f"{prefix}sine", "sin", angles.decoded)

    def turned(axis: str, one: str, kind: Sum, other: str) -> str:
        products = (
            combine(to, f"{prefix}{axis}.0", "mul", across, one),
            combine(to, f"{prefix}{axis}.1", "mul", down, other),
        )
        return combine(to, f"{prefix}{axis}", kind, *products)

    offsets = turned("right", cosine, "sub", sine), turned("below", sine, "add", cosine)
    moved = to.concat(f"{prefix}moved", offsets)
    centre = combine(to, f"{prefix}centre", "add", f"{grid}.points", moved)
    size = combine(to, f"{prefix}size", "add", near, far)
    centred = to.concat(f"{prefix}centred", (centre, size))
    found = combine(to, f"{prefix}found", "mul", centred, f"{grid}.steps")
    return _branch(to, prefix, Found(boxes, scores, found, found), angles)


def _branch(to: NodeBuilder[T], prefix: str, found: Found, extras: Extras | None) -> Branch:
    """Add the scores, and join everything."""
    logits = flat(to, f"{prefix}scores", found.scores)
    probabilities = function(to, f"{prefix}probabilities", "sigmoid", logits)
    values = (found.centred, probabilities, *((extras.decoded,) if extras else ()))
    return Branch(
        boxes=found.boxes,
        scores=found.scores,
        corners=found.corners,
        probabilities=probabilities,
        output=to.concat(f"{prefix}output", values),
        extras=extras.maps if extras else (),
        decoded=extras.decoded if extras else None,
    )


def flat(to: NodeBuilder[T], name: str, maps: _Maps) -> str:
    """Join the cells of all levels: [N, C, A]."""
    flat = [
        to.add(Reshape(name=f"{name}.{level}", inputs=(value,), shape=(0, 0, -1)))
        for level, value in enumerate(maps)
    ]
    return to.add(Concat(name=name, inputs=tuple(flat), axis=2))


def _distances(to: NodeBuilder[T], prefix: str, boxes: str, bins: int) -> str:
    """The distances [N, 4, A] to left, top, right and bottom, in cells."""
    if bins == 1:
        return boxes
    parted = Reshape(name=f"{prefix}bins", inputs=(boxes,), shape=(0, 4, bins, -1))
    turned = Transpose(name=f"{prefix}turned", inputs=(to.add(parted),), order=(0, 2, 1, 3))
    shares = Softmax(name=f"{prefix}shares", inputs=(to.add(turned),), axis=1)
    name = f"{prefix}dfl.conv"
    mean = Conv(name=name, inputs=(to.add(shares),), channels=(bins, 1), kernel=(1, 1), part="dfl")
    weight = np.arange(bins, dtype=np.float32).reshape(1, bins, 1, 1)
    expected = to.add(mean, {"weight": to.tensor(weight)})
    return to.add(Reshape(name=f"{prefix}distances", inputs=(expected,), shape=(0, 4, -1)))


def combine(to: NodeBuilder[T], name: str, kind: Sum, first: str, second: str) -> str:
    """Add the sum, difference or product of two values."""
    return to.add(Arithmetic(name=name, inputs=(first, second), kind=kind))


def scaled(to: NodeBuilder[T], name: str, value: str, kind: Sum, number: float) -> str:
    """Add the sum, difference, product or quotient of a value and a number."""
    return to.add(Arithmetic(name=name, inputs=(value,), kind=kind, number=number))


def function(to: NodeBuilder[T], name: str, kind: Curve, value: str) -> str:
    """Add a function of every number."""
    return to.add(Function(name=name, inputs=(value,), kind=kind))
