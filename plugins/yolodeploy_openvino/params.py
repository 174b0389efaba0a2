"""Parameters of the steps that only OpenVINO offers."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from yolodeploy import backend
from yolodeploy.backend import Params, Selector


class Export(backend.Export):
    """Write the model as an OpenVINO IR for a fixed number of images at once, without compression."""

    batch: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many images the artifact takes at once. More than 1 is for boxes that serve "
        "several cameras; the report then says how many images a second they get.",
    )

    @model_serializer(mode="wrap")
    def _without_a_batch_of_one(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a batch of one out: ids and locks of recipes that never named it stay as they are."""
        values: dict[str, Any] = plain(self)
        if values.get("batch") == 1:
            del values["batch"]
        return values


class Quantize(backend.Quantize):
    """Post-training W8A8 by NNCF."""

    preset: Literal["mixed", "performance"] = Field(
        default="mixed",
        description="Activations in asymmetric ranges (mixed: closer) or symmetric ones "
        "(performance: simpler arithmetic). Weights are symmetric in both.",
    )
    fast_bias_correction: bool = Field(
        default=True,
        description="Correct the mean error of each layer in closed form, from the means of its "
        "inputs; false has NNCF run the images again for every layer, many times longer.",
    )
    max_drop: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Leave the costliest layers in floating point until the score on the labelled calibration "
        "images (mAP50-95 of what the task finds, top-1 of a classifier) is lower than the float model's by at most this.",
    )


class CompressWeights(Params):
    """Store weights as integers and compute in floating point; needs no images."""

    bits: Literal[8, 4] = Field(
        default=8,
        description="8: int8 with a scale per output channel. 4: int4 with a scale per group, and "
        "int8 where a group does not divide the weights of an output channel.",
    )
    group: Literal[16, 32, 64, 128] | None = Field(
        default=None,
        description="With bits: 4, how many weights of an output channel share a scale; left out, 32.",
    )
    keep_float: tuple[Selector, ...] = Field(
        default=("dfl",),
        description="What keeps the weights of the export: parts of the model (backbone, neck, "
        "head, head.last, head.proto, head.keypoints, head.angle, dfl) and names of convolutions with * and ?.",
    )

    @model_validator(mode="after")
    def _groups_need_int4(self) -> Self:
        if self.group is not None and self.bits == 8:
            raise ValueError("group has no effect with 8 bits. Remove it, or write bits: 4.")
        return self

    @property
    def shared(self) -> int:
        """How many weights of an output channel share a scale with 4 bits."""
        return self.group or 32
