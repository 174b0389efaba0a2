"""Parameters of the compressing steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yolodeploy import backend


class Quantize(backend.Quantize):
    """Compute convolutions in int8, with ranges taken from images; costly layers stay float."""

    method: Literal["mse", "kl", "percentile"] = Field(
        default="mse",
        description="Where activations are cut off: at the least squared error of the layer's output "
        "(mse), the least Kullback-Leibler divergence (kl), or so that 99.999 % of them fit "
        "(percentile).",
    )
    bias_correction: bool = Field(
        default=True,
        description="Take the mean error that rounding causes in each output channel out of the bias.",
    )
    min_sqnr: float | None = Field(
        default=24.0,
        gt=0,
        lt=100,
        description="Budget of an automatic choice: the layers that cost most for what they save stay "
        "float until the signal-to-quantization-noise ratio of the output, on two of the images, is at "
        "least this, in decibels; null: keep_float alone decides.",
    )
