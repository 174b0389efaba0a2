"""The architecture of a YOLOv8 detection model as a table of layers.

The table holds the actual numbers of channels, so that a pruned model is rebuilt from it like any
other. `layers.structure` checks that the numbers fit together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from yolodeploy.system import GREY, RGB

MAX_COUNT = 1 << 16  # channels, or input pixels per cell
Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Small = Annotated[int, Field(gt=0, le=64)]


class Unsupported(ValueError):
    """This version cannot handle the model; the message is the end of a sentence that says why."""


class Row(BaseModel):
    """Base of everything in the table: immutable, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class ConvSpec(Row):
    """A convolution unit: convolution without bias, padded by half the kernel; batch normalisation; activation."""

    inputs: Count
    outputs: Count
    kernel: Small
    stride: Small
    act: Literal["silu", "none"]


class Layer(Row):
    """A row of the table; `sources` are the rows that it reads (-1 is the image)."""

    sources: tuple[int, ...] = Field(validation_alias="from", serialization_alias="from")


class ConvLayer(Layer):
    """One convolution unit."""

    kind: Literal["conv"] = "conv"
    conv: ConvSpec


class BlockSpec(Row):
    """Two convolution units, whose result is added to their input if `shortcut`."""

    first: ConvSpec
    second: ConvSpec
    shortcut: bool


class C2fLayer(Layer):
    """Cross-stage block: splits the entry in two, chains blocks on the second half, joins everything."""

    kind: Literal["c2f"] = "c2f"
    entry: ConvSpec
    split: tuple[Count, Count]
    blocks: tuple[BlockSpec, ...]
    exit: ConvSpec


class SppfLayer(Layer):
    """Spatial pyramid pooling: the entry and `pools` successive max-poolings of it, joined."""

    kind: Literal["sppf"] = "sppf"
    entry: ConvSpec
    kernel: Small
    pools: Small
    exit: ConvSpec


class UpsampleLayer(Layer):
    """Nearest-neighbour upsampling."""

    kind: Literal["upsample"] = "upsample"
    scale: Small


class ConcatLayer(Layer):
    """Joins maps along the channels."""

    kind: Literal["concat"] = "concat"


class BranchSpec(Row):
    """A branch of the head on one level: two convolution units, then a plain 1x1 convolution."""

    first: ConvSpec
    second: ConvSpec
    outputs: Count


class DetectLayer(Layer):
    """The head: per level a branch for the box distributions and one for the class scores."""

    kind: Literal["detect"] = "detect"
    boxes: tuple[BranchSpec, ...]
    scores: tuple[BranchSpec, ...]


AnyLayer = Annotated[
    ConvLayer | C2fLayer | SppfLayer | UpsampleLayer | ConcatLayer | DetectLayer,
    Field(discriminator="kind"),
]


class Arch(Row):
    """A whole model: its rows in order of execution, the head last.

    `eps` is that of the batch normalisations, `reg_max` the number of bins in the distribution of a
    box side.
    """

    eps: Annotated[float, Field(gt=0)]
    names: tuple[str, ...]
    reg_max: Annotated[int, Field(gt=1, le=1 << 14)]
    strides: tuple[Count, ...]
    layers: tuple[AnyLayer, ...]

    @property
    def head(self) -> DetectLayer:
        """The last row; raises `Unsupported` if that is something else."""
        head = self.layers[-1] if self.layers else None
        if not isinstance(head, DetectLayer):
            raise Unsupported("its last layer is not a detection head")
        return head

    @property
    def channels(self) -> int:
        """Channels of the images; raises `Unsupported` unless they are RGB or grey."""
        first = self.layers[0] if self.layers else None
        channels = first.conv.inputs if isinstance(first, ConvLayer) else RGB
        if channels not in (RGB, GREY):
            raise Unsupported(
                f"it takes images of {channels} channels, and only 3 (RGB) and 1 (grey) are supported"
            )
        return channels

    def inputs_of_head(self) -> tuple[int, ...]:
        """Channels of the maps that the head reads, one per level."""
        return tuple(box.first.inputs for box in self.head.boxes)
