"""The primitives without weights, and the union of all."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from yolodeploy_torch.graph.nodes import (
    Axis,
    Count,
    Elementwise,
    Least,
    Node,
    Pair,
    Shape,
    Small,
    Unsupported,
    map_shape,
    single_shape,
    window_shape,
)
from yolodeploy_torch.graph.weighted import BatchNorm, Constant, Conv, ConvTranspose, Linear


class Activation(Elementwise):
    """What follows a convolution; `slope` is that of `leaky_relu` below 0."""

    op: Literal["activation"] = "activation"
    kind: Literal["silu", "relu", "leaky_relu", "hardswish"]
    slope: Annotated[float, Field(ge=0, le=1)] = 0.0


class Function(Elementwise):
    """Sigmoid, sine, cosine or the exponential function."""

    op: Literal["function"] = "function"
    kind: Literal["sigmoid", "sin", "cos", "exp"]


class Softmax(Node):
    """Softmax over an axis."""

    op: Literal["softmax"] = "softmax"
    axis: Axis

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """Keep the shape."""
        shape = single_shape(given)
        if self.axis >= len(shape):
            raise Unsupported(f"a value of {len(shape)} axes has no axis {self.axis}")
        return (shape,)


class Arithmetic(Node):
    """Addition, subtraction, multiplication or division of two values, or of a value and `number`."""

    op: Literal["arithmetic"] = "arithmetic"
    kind: Literal["add", "sub", "mul", "div"]
    number: float | None = None

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """Broadcast as NumPy does values of as many axes."""
        if len(given) != (1 if self.number is not None else 2):
            raise Unsupported(f"it reads {len(given)} values")
        first, other = given[0], given[-1]
        if len(first) != len(other) or any(
            n != m and 1 not in (n, m) for n, m in zip(first, other, strict=True)
        ):
            raise Unsupported(f"values of shapes {first} and {other} are combined")
        return (tuple(max(pair) for pair in zip(first, other, strict=True)),)


class MatMul(Node):
    """The product of matrices in the last two axes."""

    op: Literal["matmul"] = "matmul"

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[..., n, m] and [..., m, k] to [..., n, k]."""
        if len(given) != 2 or len(given[0]) < 2 or given[0][:-2] != given[1][:-2]:
            raise Unsupported(f"matrices of shapes {given} are multiplied")
        first, second = given
        if first[-1] != second[-2]:
            raise Unsupported(f"matrices of shapes {first} and {second} are multiplied")
        return ((*first[:-1], second[-1]),)


class Concat(Node):
    """Joins values along an axis."""

    op: Literal["concat"] = "concat"
    axis: Axis = 1

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """All other axes must agree."""
        first = given[0]
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in given}
        if len(rests) > 1 or any(len(shape) != len(first) for shape in given):
            raise Unsupported(f"values of shapes {', '.join(map(str, given))} are joined")
        if self.axis >= len(first):
            raise Unsupported(f"values of {len(first)} axes are joined along axis {self.axis}")
        joined = sum(shape[self.axis] for shape in given)
        return ((*first[: self.axis], joined, *first[self.axis + 1 :]),)


class Split(Node):
    """Cuts a value along an axis into pieces of these sizes; makes one value per piece."""

    op: Literal["split"] = "split"
    axis: Axis = 1
    sizes: tuple[Count, ...] = Field(min_length=1, max_length=64)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The pieces."""
        return tuple(f"{self.name}.{number}" for number in range(len(self.sizes)))

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """The sizes must add up to the axis."""
        shape = single_shape(given)
        if self.axis >= len(shape) or shape[self.axis] != sum(self.sizes):
            raise Unsupported(f"a value of shape {shape} is split into {self.sizes}")
        return tuple((*shape[: self.axis], size, *shape[self.axis + 1 :]) for size in self.sizes)


class Reshape(Node):
    """Arranges the numbers of a value anew, in their order.

    Of `shape`, 0 copies the dimension of the same axis, -1 is what remains, and "height" and "width" are those
    of a second input, a map.
    """

    op: Literal["reshape"] = "reshape"
    shape: tuple[Annotated[int, Field(ge=-1, le=1 << 24)] | Literal["height", "width"], ...] = (
        Field(min_length=1, max_length=6)
    )

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """The number of numbers stays."""
        return (self.resolved(given),)

    def resolved(self, given: tuple[Shape, ...]) -> Shape:
        """The dimensions in numbers."""
        like: dict[object, int] = {}
        if len(given) == 2:
            like = {"height": given[1][-2], "width": given[1][-1]}
        copied = [
            self._copied(size, axis, given[0]) if size == 0 else like.get(size, size)
            for axis, size in enumerate(self.shape)
        ]
        sizes = [size for size in copied if isinstance(size, int)]
        total, rest = math.prod(given[0]), [size for size in sizes if size != -1]
        if len(sizes) < len(copied) or len(sizes) - len(rest) > 1 or min(rest, default=1) < 1:
            raise Unsupported(f"a value of shape {given[0]} is arranged as {self.shape}")
        known = math.prod(rest)
        filled = tuple(total // known if size == -1 else size for size in sizes)
        if math.prod(filled) != total:
            raise Unsupported(f"a value of shape {given[0]} is arranged as {filled}")
        return filled

    @staticmethod
    def _copied(size: int | str, axis: int, shape: Shape) -> int | str:
        return shape[axis] if axis < len(shape) else size


class Transpose(Node):
    """Exchanges axes: axis i of the result is axis `order[i]` of the input."""

    op: Literal["transpose"] = "transpose"
    order: tuple[Axis, ...] = Field(min_length=2, max_length=6)

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """Every axis occurs once."""
        shape = single_shape(given)
        if sorted(self.order) != list(range(len(shape))):
            raise Unsupported(f"the axes of a value of shape {shape} are exchanged as {self.order}")
        return (tuple(shape[axis] for axis in self.order),)


class Pool(Node):
    """The greatest or the mean value in windows of a map."""

    op: Literal["pool"] = "pool"
    kind: Literal["max", "average"]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Least, Least] = (0, 0)

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, C, H', W']."""
        batch, channels, *size = map_shape(given)
        if any(2 * margin > side for margin, side in zip(self.padding, self.kernel, strict=True)):
            raise Unsupported(f"windows of {self.kernel} have margins of {self.padding}")
        return (window_shape((batch, channels), size, self.kernel, self.stride, self.padding),)


class GlobalPool(Node):
    """The mean of a whole map."""

    op: Literal["global_pool"] = "global_pool"

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, C, 1, 1]."""
        return ((*map_shape(given)[:2], 1, 1),)


class Resize(Node):
    """Nearest-neighbour resizing: by `scale`, or to the size of a second input."""

    op: Literal["resize"] = "resize"
    scale: Small | None = None

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, C, H', W']."""
        batch, channels, height, width = map_shape(given[:1])
        if self.scale is not None and len(given) == 1:
            return ((batch, channels, height * self.scale, width * self.scale),)
        if self.scale is None and len(given) == 2 and len(given[1]) == 4:
            return ((batch, channels, *given[1][2:]),)
        raise Unsupported("it is resized to no size")


class Grid(Node):
    """The anchors of the maps that it reads, one per cell, level after level and row after row.

    Makes `points` [1, 2, A], the centres of the cells as x and y in cells, and `steps` [1, 1, A], the size of a
    cell in input pixels.
    """

    op: Literal["grid"] = "grid"
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Points and steps."""
        return f"{self.name}.points", f"{self.name}.steps"

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """One map per stride."""
        if len(given) != len(self.strides):
            raise Unsupported(f"{len(given)} maps have the strides {self.strides}")
        anchors = sum(height * width for *_, height, width in given)
        return (1, 2, anchors), (1, 1, anchors)


AnyNode = Annotated[
    Conv
    | ConvTranspose
    | Linear
    | BatchNorm
    | Activation
    | Function
    | Softmax
    | Arithmetic
    | MatMul
    | Concat
    | Split
    | Reshape
    | Transpose
    | Pool
    | GlobalPool
    | Resize
    | Constant
    | Grid,
    Field(discriminator="op"),
]
