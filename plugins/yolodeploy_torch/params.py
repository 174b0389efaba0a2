"""Parameters of the steps that change the model before it is exported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from yolodeploy.transforms import Params

Share = Annotated[float, Field(gt=0, lt=1)]


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
