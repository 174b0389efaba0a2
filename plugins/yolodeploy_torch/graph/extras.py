"""What the maps of a task beside boxes and scores decode to, in primitives: mask coefficients, keypoints, angles."""

from __future__ import annotations

import math
from typing import TypeVar

from yolodeploy_torch.graph.builder import NodeBuilder
from yolodeploy_torch.graph.decoding import Extras, combine, flat, function, scaled
from yolodeploy_torch.graph.operations import Reshape, Split

T = TypeVar("T")
_Maps = tuple[str, ...]
_PLANE = 2  # numbers of a keypoint that are a place


def coefficients(to: NodeBuilder[T], prefix: str, maps: _Maps) -> Extras:
    """Mask coefficients are used as they are: the sum of the prototypes, so weighted, is a mask's logits."""
    return Extras(maps, flat(to, f"{prefix}coefficients", maps))


def angles(to: NodeBuilder[T], prefix: str, maps: _Maps, *, bounded: bool) -> Extras:
    """Angles in radians: as they are, or `bounded` to -pi/4..3pi/4 by (sigmoid - 1/4) * pi."""
    raw = flat(to, f"{prefix}turns", maps)
    if not bounded:
        return Extras(maps, raw)
    share = function(to, f"{prefix}turns.share", "sigmoid", raw)
    shifted = scaled(to, f"{prefix}turns.shifted", share, "sub", 0.25)
    return Extras(maps, scaled(to, f"{prefix}angles", shifted, "mul", math.pi))


def keypoints(
    to: NodeBuilder[T],
    prefix: str,
    maps: _Maps,
    grid: str,
    shape: tuple[int, int],
    *,
    doubled: bool,
) -> Extras:
    """Keypoints in px, and their visibility in 0..1 where they have one; point by point as x, y, visibility.

    `shape` is their count and the numbers of each. A place is an offset in cells from the centre of a cell, or, if
    `doubled`, twice the offset from its upper left corner.
    """
    count, numbers = shape
    name = f"{prefix}keypoints"
    raw = flat(to, f"{name}.raw", maps)
    parted = to.add(Reshape(name=f"{name}.parted", inputs=(raw,), shape=(0, count, numbers, -1)))
    offsets, visible = parted, tuple[str, ...]()
    if numbers > _PLANE:
        split = Split(name=f"{name}.split", inputs=(parted,), axis=2, sizes=(_PLANE, 1))
        offsets = to.add(split)
        visible = (function(to, f"{name}.visible", "sigmoid", split.outputs[1]),)
    points, steps = (
        to.add(Reshape(name=f"{name}.{what}", inputs=(f"{grid}.{what}",), shape=(1, 1, axes, -1)))
        for what, axes in (("points", _PLANE), ("steps", 1))
    )
    if doubled:
        offsets = scaled(to, f"{name}.doubled", offsets, "mul", 2.0)
        points = scaled(to, f"{name}.corners", points, "sub", 0.5)
    cells = combine(to, f"{name}.cells", "add", offsets, points)
    places = combine(to, f"{name}.places", "mul", cells, steps)
    joined = to.concat(f"{name}.joined", (places, *visible), axis=2)
    whole = Reshape(name=name, inputs=(joined,), shape=(0, count * numbers, -1))
    return Extras(maps, to.add(whole))
