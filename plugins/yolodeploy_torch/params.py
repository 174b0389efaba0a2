"""Parameters of the steps that change the model before it is exported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from yolodeploy.transforms import Number, Params

Share = Annotated[float, Number, Field(gt=0, lt=1)]
Chance = Annotated[float, Number, Field(ge=0, le=1)]
Strength = Annotated[float, Number, Field(ge=0, lt=1)]


class Augment(Params):
    """How training images are varied; all zero leaves them as the model will see them."""

    mosaic: Chance = Field(
        default=0.0, description="The probability that an image is joined with three others."
    )
    scale: Strength = Field(
        default=0.2, description="The size of the image varies by up to this share, up and down."
    )
    translate: Strength = Field(
        default=0.05, description="The image is shifted by up to this share of its side."
    )
    rotate: float = Field(
        default=0.0, ge=0, le=180, description="The image is turned by up to so many degrees."
    )
    flip: Chance = Field(
        default=0.5, description="The probability that left and right are exchanged."
    )
    flip_vertical: Chance = Field(
        default=0.0, description="The probability that top and bottom are exchanged."
    )
    hue: Strength = Field(
        default=0.015, description="The hue is turned by up to this share of the colour circle."
    )
    saturation: Strength = Field(
        default=0.4, description="The saturation varies by up to this share, up and down."
    )
    brightness: Strength = Field(
        default=0.3, description="The brightness varies by up to this share, up and down."
    )


class Prune(Params):
    """Cut whole channels away, which leaves a smaller dense model: structured pruning."""

    keep: Share = Field(default=0.7, description="The share that stays at most.")
    of: Literal["flops", "parameters", "channels"] = Field(
        default="flops",
        description="What `keep` is a share of: the multiply-accumulates, the convolutions' weights, "
        "or the channels.",
    )
    importance: Literal["magnitude", "bn_scale"] = Field(
        default="magnitude",
        description="What makes a channel important: the norm of its filter, or the scale of its "
        "batch normalisation.",
    )
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="Compare channels over the whole model by importance per FLOP, or cut the same "
        "share of every layer.",
    )
    multiple: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Channels of a layer stay a multiple of this, which is what kernels are fast at.",
    )
    least: Share = Field(
        default=0.25, description="The share of its channels that every layer keeps at least."
    )
