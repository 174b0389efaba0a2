"""Parameters of the steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yolodeploy import backend
from yolodeploy.backend import Params, Selector


class Export(backend.Export):
    """Write the model as an ONNX file, without compression."""

    batch: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many images the artifact takes at once. More than 1 is for boxes that serve "
        "several cameras; the report then says how many images a second they get.",
    )
    opset: Literal[14, 15, 16, 17, 18, 19, 20, 21] = Field(
        default=17,
        description="Version of the ONNX operators. The default runs in ONNX Runtime 1.12 and newer.",
    )


class Quantize(backend.Quantize):
    """Compute in 8-bit integers (QDQ), with ranges taken from images."""

    method: Literal["mse", "percentile", "minmax"] = Field(
        default="mse",
        description="Where activations are cut off: at the least squared error (mse), so that 99.99 % of "
        "them fit (percentile), or nowhere (minmax).",
    )
    bias_correction: bool = Field(
        default=True,
        description="Take the mean error that rounding causes in each output channel out of the bias.",
    )
    min_sqnr: float | None = Field(
        default=None,
        gt=0,
        lt=100,
        description="Budget of an automatic choice: the layers that cost most for what they save stay "
        "float until the signal-to-quantization-noise ratio of the output, on four of the images, is at "
        "least this, in decibels; left out: keep_float and spare_dominant decide.",
    )
    spare_dominant: bool = Field(
        default=True,
        description="Leave convolutions float that alone cost more than all others together, three at most. They are "
        "looked for on four of the images; with min_sqnr that decides.",
    )


class W8(Params):
    """Store weights as int8 with a scale per output channel, compute in float; needs no images."""

    keep_float: tuple[Selector, ...] = Field(
        default=("dfl",),
        description="What keeps the weights of the export: parts of the model (backbone, neck, "
        "head, head.last, head.proto, head.keypoints, head.angle, dfl) and names of convolutions with * and ?.",
    )
