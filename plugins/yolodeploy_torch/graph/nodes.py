"""The primitives that a graph is made of, and the shapes that they make.

Every YOLO family exports to these operations and no others. A node has a name; it reads values, which are
named after the nodes that make them, and makes one (`split` and `grid` make several, see `outputs`).
A node with weights bears the name that its module has in the checkpoint. No primitive has a fixed
image size: `reshape` may copy dimensions, and `grid` follows the maps that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from yolodeploy.compress import Part
from yolodeploy.recipe import Head

MAX_COUNT = 1 << 16  # channels, or input pixels per cell
MAX_NUMBERS = 1 << 28  # of one value, at the size at which a graph is checked
Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Small = Annotated[int, Field(gt=0, le=64)]
Least = Annotated[int, Field(ge=0, le=64)]
Axis = Annotated[int, Field(ge=0, le=5)]
Pair = tuple[Small, Small]
Shape = tuple[int, ...]


class Unsupported(ValueError):
    """This version cannot handle the model; the message is the end of a sentence that says why."""


class Row(BaseModel):
    """Base of everything in the table: immutable, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class Node(Row):
    """Base of all primitives.

    `inputs` names the values that it reads; `image` is the input of the model. `part` is the part of the model
    that it belongs to, `branch` the head that alone needs it (None: both, or there is one).
    """

    OP: ClassVar[str] = ""
    name: str = Field(min_length=1, max_length=200, pattern=r"^[\w.]+$")
    inputs: tuple[str, ...] = Field(min_length=1, max_length=64)
    part: Part | None = None
    branch: Head | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the values that it makes."""
        return (self.name,)

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """The shapes of its values from those of its inputs; raises `Unsupported` if they do not fit."""
        raise NotImplementedError

    def weights(self) -> Mapping[str, Shape]:
        """The shapes of its tensors, by the end of their names."""
        return {}


class Elementwise(Node):
    """Base of what maps every number by itself."""

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """Keep the shape."""
        return (single_shape(given),)


def bounded(name: str, shapes: tuple[Shape, ...]) -> None:
    """Raise `Unsupported` for values that no model makes: a small file could describe huge ones."""
    for shape in shapes:
        channels = shape[1] if len(shape) == 4 else 1
        if channels > MAX_COUNT or max(shape) > MAX_NUMBERS or math.prod(shape) > MAX_NUMBERS:
            raise Unsupported(
                f"its layer {name} makes more than {MAX_COUNT:,} channels, or too large a map"
            )


def single_shape(given: tuple[Shape, ...]) -> Shape:
    """The shape of the one input; raises `Unsupported` if there are several."""
    if len(given) != 1:
        raise Unsupported(f"it reads {len(given)} values, and one is allowed")
    return given[0]


def map_shape(given: tuple[Shape, ...]) -> Shape:
    """The shape of the one input, a map [N, C, H, W]."""
    shape = single_shape(given)
    if len(shape) != 4:
        raise Unsupported(f"it reads a value of shape {shape}, where a map of four axes is needed")
    return shape


def window_shape(
    start: Shape, size: list[int], reach: list[int] | Pair, stride: Pair, padding: tuple[int, int]
) -> Shape:
    """`start` and the size of a map behind windows that reach over so many cells."""
    zipped = zip(size, reach, stride, padding, strict=True)
    made = [(n + 2 * p - k) // s + 1 for n, k, s, p in zipped]
    if min(made) < 1:
        raise Unsupported(f"a map of {size[0]} x {size[1]} cells is too small for its window")
    return (*start, *made)
