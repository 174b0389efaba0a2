"""The primitives that have weights; each bears the name that its module has in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from yolodeploy_torch.graph.nodes import (
    Count,
    Least,
    Node,
    Pair,
    Shape,
    Unsupported,
    map_shape,
    single_shape,
    window_shape,
)


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
        batch, channels, *size = map_shape(given)
        if channels != self.channels[0]:
            raise Unsupported(
                f"a convolution takes {self.channels[0]} channels, but {channels} arrive"
            )
        if any(count % self.groups for count in self.channels):
            raise Unsupported(
                f"{self.channels[0]} channels to {self.channels[1]} do not divide into {self.groups} groups"
            )
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        return (window_shape((batch, self.channels[1]), size, reach, self.stride, self.padding),)

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
        batch, channels, *size = map_shape(given)
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
        shape = single_shape(given)
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
        shape = map_shape(given)
        if shape[1] != self.channels:
            raise Unsupported(f"{shape[1]} channels are normalised as {self.channels}")
        return (shape,)

    def weights(self) -> Mapping[str, Shape]:
        """Scale and shift, and the statistics."""
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (self.channels,))


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
