"""The architecture of a YOLOv8 detection model as a table of layers.

The table holds the actual numbers of channels, so that a model whose channels were
changed is rebuilt from it like any other. `flow` says whether the numbers fit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

MOST = 1 << 16  # channels, or input pixels per cell
Count = Annotated[int, Field(gt=0, le=MOST)]
Small = Annotated[int, Field(gt=0, le=64)]


class Unsupported(ValueError):
    """Why a model is not one that this version can handle, as the end of a sentence."""


class Flow(NamedTuple):
    """What a layer hands on: channels, and input pixels per cell."""

    channels: int
    stride: int


class Row(BaseModel):
    """Base of everything in the table: immutable, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class ConvSpec(Row):
    """Convolution without bias, batch normalisation, activation; padded by half the kernel."""

    inputs: Count
    outputs: Count
    kernel: Small
    stride: Small
    act: Literal["silu", "none"]

    def after(self, channels: int) -> int:
        """Return the channels that leave when `channels` arrive; refuse what does not fit."""
        if channels != self.inputs:
            raise Unsupported(f"a convolution takes {self.inputs} channels, but {channels} arrive")
        return self.outputs


class Layer(Row):
    """One row: which rows it reads (-1 is the image)."""

    sources: tuple[int, ...] = Field(validation_alias="from", serialization_alias="from")

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Return what leaves the layer; refuse what does not fit."""
        raise NotImplementedError


class ConvLayer(Layer):
    """A single convolution unit."""

    kind: Literal["conv"] = "conv"
    conv: ConvSpec

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Apply the convolution."""
        (flow,) = flows
        return Flow(self.conv.after(flow.channels), flow.stride * self.conv.stride)


class BlockSpec(Row):
    """Two convolutions, added to their input if `shortcut`."""

    first: ConvSpec
    second: ConvSpec
    shortcut: bool

    def after(self, channels: int) -> int:
        """Return the channels that leave when `channels` arrive; refuse what does not fit."""
        outputs = self.second.after(self.first.after(channels))
        if self.shortcut and outputs != channels:
            raise Unsupported(f"a shortcut adds {channels} channels to {outputs}")
        return outputs


class C2fLayer(Layer):
    """Cross-stage block: `split` the entry in two, chain blocks on the second, join everything."""

    kind: Literal["c2f"] = "c2f"
    entry: ConvSpec
    split: tuple[Count, Count]
    blocks: tuple[BlockSpec, ...]
    exit: ConvSpec

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Follow the split, the chain of blocks and the join."""
        (flow,) = flows
        if self.entry.after(flow.channels) != sum(self.split):
            raise Unsupported(f"{self.entry.outputs} channels are split into {self.split}")
        parts = list(self.split)
        for block in self.blocks:
            parts.append(block.after(parts[-1]))
        return Flow(self.exit.after(sum(parts)), flow.stride)


class SppfLayer(Layer):
    """Spatial pyramid pooling: the entry and `pools` successive max-poolings of it, joined."""

    kind: Literal["sppf"] = "sppf"
    entry: ConvSpec
    kernel: Small
    pools: Small
    exit: ConvSpec

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Join the entry and its poolings."""
        (flow,) = flows
        joined = self.entry.after(flow.channels) * (self.pools + 1)
        return Flow(self.exit.after(joined), flow.stride)


class UpsampleLayer(Layer):
    """Nearest-neighbour upsampling."""

    kind: Literal["upsample"] = "upsample"
    scale: Small

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Keep the channels, at a finer stride."""
        (flow,) = flows
        if flow.stride % self.scale:
            raise Unsupported(f"stride {flow.stride} is upsampled by {self.scale}")
        return Flow(flow.channels, flow.stride // self.scale)


class ConcatLayer(Layer):
    """Join along the channels."""

    kind: Literal["concat"] = "concat"

    def after(self, flows: Sequence[Flow]) -> Flow:
        """Add up the channels of maps of one stride."""
        if len({flow.stride for flow in flows}) != 1:
            raise Unsupported(f"maps of strides {[flow.stride for flow in flows]} are joined")
        return Flow(sum(flow.channels for flow in flows), flows[0].stride)


class BranchSpec(Row):
    """A head's branch on one level: two convolution units, then a plain 1x1 convolution."""

    first: ConvSpec
    second: ConvSpec
    outputs: Count

    def after(self, channels: int) -> int:
        """Return the channels that leave when `channels` arrive; refuse what does not fit."""
        self.second.after(self.first.after(channels))
        return self.outputs


class DetectLayer(Layer):
    """The head: per level a branch for the box distributions and one for the class scores."""

    kind: Literal["detect"] = "detect"
    boxes: tuple[BranchSpec, ...]
    scores: tuple[BranchSpec, ...]

    def levels(self, flows: Sequence[Flow]) -> tuple[Flow, ...]:
        """Return box channels + class channels, and the stride, of every level."""
        return tuple(
            Flow(box.after(flow.channels) + score.after(flow.channels), flow.stride)
            for flow, box, score in zip(flows, self.boxes, self.scores, strict=True)
        )


AnyLayer = Annotated[
    ConvLayer | C2fLayer | SppfLayer | UpsampleLayer | ConcatLayer | DetectLayer,
    Field(discriminator="kind"),
]


class Arch(Row):
    """A whole model: its rows in order of execution, the head last.

    `eps` is the batch normalisation's, `reg_max` the number of bins of a box side's
    distribution.
    """

    eps: Annotated[float, Field(gt=0)]
    names: tuple[str, ...]
    reg_max: Annotated[int, Field(gt=1, le=1 << 14)]
    strides: tuple[Count, ...]
    layers: tuple[AnyLayer, ...]

    @property
    def head(self) -> DetectLayer:
        """The last row."""
        head = self.layers[-1] if self.layers else None
        if not isinstance(head, DetectLayer):
            raise Unsupported("its last layer is no detection head")
        return head

    def inputs_of_head(self) -> tuple[int, ...]:
        """Channels of the maps that the head reads, one per level."""
        return tuple(box.first.inputs for box in self.head.boxes)

    def check(self) -> None:
        """Refuse a table whose numbers do not fit together (`Unsupported`)."""
        flows: list[Flow] = []
        for row, layer in enumerate(self.layers[:-1]):
            try:
                flows.append(layer.after(_incoming(layer, flows)))
            except ValueError as error:
                raise Unsupported(f"layer {row} ({layer.kind}) does not fit: {error}") from error
            if max(flows[-1]) > MOST:
                raise Unsupported(
                    f"layer {row} ({layer.kind}) makes more channels or a larger stride than {MOST:,}"
                )
        levels = self.head.levels(_incoming(self.head, flows))
        expected = 4 * self.reg_max + len(self.names)
        for level in levels:
            if level.channels != expected:
                raise Unsupported(
                    f"its head gives {level.channels - 4 * self.reg_max} class scores, "
                    f"but it names {len(self.names)} classes"
                )
        if tuple(level.stride for level in levels) != self.strides:
            raise Unsupported(
                f"it states the strides {self.strides}, but its layers make "
                f"{tuple(level.stride for level in levels)}"
            )


def _incoming(layer: Layer, flows: Sequence[Flow]) -> list[Flow]:
    image = Flow(3, 1)
    if not layer.sources or not all(-1 <= source < len(flows) for source in layer.sources):
        raise Unsupported(f"it reads the layers {layer.sources}, which do not come before it")
    return [image if source == -1 else flows[source] for source in layer.sources]
