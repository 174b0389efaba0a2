"""The primitives that a graph is made of, and the shapes that they make.

Every YOLO family exports to these operations and no others. A node has a name; it reads values, which are
named after the nodes that make them, and makes one (`split` and `grid` make several, see `outputs`).
A node with weights bears the name that its module has in the checkpoint. No primitive has a fixed
image size: `reshape` may copy dimensions, and `grid` follows the maps that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

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
        return (_single(given),)


class Conv(Node):
    """A convolution over NCHW; `bias` says that it has one."""

    op: Literal["conv"] = "conv"
    channels: tuple[Count, Count]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Least, Least] = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    bias: bool = False

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads an input channel of its own."""
        return self.groups > 1 and self.groups == self.channels[0] == self.channels[1]

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, outputs, H', W']."""
        batch, channels, *size = _image(given)
        if channels != self.channels[0]:
            raise Unsupported(
                f"a convolution takes {self.channels[0]} channels, but {channels} arrive"
            )
        if any(count % self.groups for count in self.channels):
            raise Unsupported(
                f"{self.channels[0]} channels to {self.channels[1]} do not divide into {self.groups} groups"
            )
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        return (_windows((batch, self.channels[1]), size, reach, self.stride, self.padding),)

    def weights(self) -> Mapping[str, Shape]:
        """The kernels [outputs, inputs / groups, height, width], and the bias."""
        inputs, outputs = self.channels
        bias = {"bias": (outputs,)} if self.bias else {}
        return {"weight": (outputs, inputs // self.groups, *self.kernel), **bias}


class ConvTranspose(Node):
    """A transposed convolution over NCHW."""

    op: Literal["conv_transpose"] = "conv_transpose"
    channels: tuple[Count, Count]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Least, Least] = (0, 0)
    bias: bool = False

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, outputs, (H - 1) * stride - 2 * padding + kernel, ...]."""
        batch, channels, *size = _image(given)
        if channels != self.channels[0]:
            raise Unsupported(
                f"a transposed convolution takes {self.channels[0]} channels, but {channels} arrive"
            )
        zipped = zip(size, self.stride, self.padding, self.kernel, strict=True)
        return ((batch, self.channels[1], *((n - 1) * s - 2 * p + k for n, s, p, k in zipped)),)

    def weights(self) -> Mapping[str, Shape]:
        """The kernels [inputs, outputs, height, width], and the bias."""
        bias = {"bias": (self.channels[1],)} if self.bias else {}
        return {"weight": (*self.channels, *self.kernel), **bias}


class Linear(Node):
    """A matrix over the last axis."""

    op: Literal["linear"] = "linear"
    channels: tuple[Count, Count]
    bias: bool = True

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[..., inputs] to [..., outputs]."""
        shape = _single(given)
        if shape[-1] != self.channels[0]:
            raise Unsupported(f"a matrix takes {self.channels[0]} numbers, but {shape[-1]} arrive")
        return ((*shape[:-1], self.channels[1]),)

    def weights(self) -> Mapping[str, Shape]:
        """The matrix [outputs, inputs], and the bias."""
        bias = {"bias": (self.channels[1],)} if self.bias else {}
        return {"weight": self.channels[::-1], **bias}


class BatchNorm(Node):
    """Batch normalisation over the channels of NCHW."""

    op: Literal["batch_norm"] = "batch_norm"
    channels: Count
    eps: Annotated[float, Field(gt=0, le=1)]

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """Keep the shape."""
        shape = _image(given)
        if shape[1] != self.channels:
            raise Unsupported(f"{shape[1]} channels are normalised as {self.channels}")
        return (shape,)

    def weights(self) -> Mapping[str, Shape]:
        """Scale and shift, and the statistics."""
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (self.channels,))


class Activation(Elementwise):
    """What follows a convolution; `slope` is that of `leaky_relu` below 0."""

    op: Literal["activation"] = "activation"
    kind: Literal["silu", "relu", "leaky_relu", "hardswish"]
    slope: Annotated[float, Field(ge=0, le=1)] = 0.0


class Function(Elementwise):
    """Sigmoid, sine or cosine."""

    op: Literal["function"] = "function"
    kind: Literal["sigmoid", "sin", "cos"]


class Softmax(Elementwise):
    """Softmax over an axis."""

    op: Literal["softmax"] = "softmax"
    axis: Axis


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
        shape = _single(given)
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
        shape = _single(given)
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
        batch, channels, *size = _image(given)
        return (_windows((batch, channels), size, self.kernel, self.stride, self.padding),)


class GlobalPool(Node):
    """The mean of a whole map."""

    op: Literal["global_pool"] = "global_pool"

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, C, 1, 1]."""
        return ((*_image(given)[:2], 1, 1),)


class Resize(Node):
    """Nearest-neighbour resizing: by `scale`, or to the size of a second input."""

    op: Literal["resize"] = "resize"
    scale: Small | None = None

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:
        """[N, C, H, W] to [N, C, H', W']."""
        batch, channels, height, width = _image(given[:1])
        if self.scale is not None and len(given) == 1:
            return ((batch, channels, height * self.scale, width * self.scale),)
        if self.scale is None and len(given) == 2 and len(given[1]) == 4:
            return ((batch, channels, *given[1][2:]),)
        raise Unsupported("it is resized to no size")


class Constant(Node):
    """A tensor of the model, such as a learned scale per channel; its input only says where it is used."""

    op: Literal["constant"] = "constant"
    shape: tuple[Count, ...] = Field(min_length=1, max_length=5)

    def shapes(self, *given: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        """Its own."""
        return (self.shape,)

    def weights(self) -> Mapping[str, Shape]:
        """The tensor, which has the name of the node."""
        return {"": self.shape}


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


def bounded(name: str, shapes: tuple[Shape, ...]) -> None:
    """Raise `Unsupported` for values that no model makes: a small file could describe huge ones."""
    for shape in shapes:
        channels = shape[1] if len(shape) == 4 else 1
        if channels > MAX_COUNT or max(shape) > MAX_NUMBERS or math.prod(shape) > MAX_NUMBERS:
            raise Unsupported(
                f"its layer {name} makes more than {MAX_COUNT:,} channels, or too large a map"
            )


def _single(given: tuple[Shape, ...]) -> Shape:
    if len(given) != 1:
        raise Unsupported(f"it reads {len(given)} values, and one is allowed")
    return given[0]


def _image(given: tuple[Shape, ...]) -> Shape:
    shape = _single(given)
    if len(shape) != 4:
        raise Unsupported(f"it reads a value of shape {shape}, where a map of four axes is needed")
    return shape


def _windows(
    start: Shape, size: list[int], reach: list[int] | Pair, stride: Pair, padding: tuple[int, int]
) -> Shape:
    zipped = zip(size, reach, stride, padding, strict=True)
    made = [(n + 2 * p - k) // s + 1 for n, k, s, p in zipped]
    if min(made) < 1:
        raise Unsupported(f"a map of {size[0]} x {size[1]} cells is too small for its window")
    return (*start, *made)
