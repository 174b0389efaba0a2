"""Parameters of this backend's steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from yolodeploy import transforms
from yolodeploy.transforms import Export, Params

# Constants that boxes depend on exactly, and what mixes pixels with scores: never compressed.
UNTOUCHED = ("dfl", "decode")
_NMS_ONLY = {"iou", "confidence"}


class CoreMLExport(Export):
    """Write the model as an .mlpackage (an ML program) that takes an image."""

    nms: bool = Field(
        default=False,
        description="Append Core ML's non-maximum suppression, so that Vision returns objects.",
    )
    iou: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="With nms: overlap above which the lower-scored box goes, unless the app sets it.",
    )
    confidence: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="With nms: score below which a box is dropped, unless the app sets it.",
    )

    @model_validator(mode="after")
    def _thresholds_need_nms(self) -> CoreMLExport:
        unused = sorted(_NMS_ONLY & self.model_fields_set)
        if unused and not self.nms:
            raise ValueError(f"{', '.join(unused)} has no effect without nms. Add `nms: true`.")
        return self


class Palettize(Params):
    """Store each convolution's weights as a table of 2**bits values and an index per weight."""

    bits: Literal[1, 2, 3, 4, 6, 8] = Field(
        default=8,
        description="Bits per weight; Core ML has no tables of 5 or 7 bits, and 3 from iOS 18 on.",
    )
    mode: Literal["kmeans", "uniform"] = Field(
        default="kmeans",
        description="How the values are chosen: kmeans (where the weights are) or uniform (evenly spaced).",
    )


class QuantizeWeights(Params):
    """Store each convolution's weights as int8, with a scale and zero point per output channel."""


class Quantize(transforms.Quantize):
    """Compute convolutions with 8-bit weights and 8-bit activations (W8A8)."""

    method: Literal["mse", "percentile", "minmax"] = Field(
        default="mse",
        description="How the range of an activation is chosen: mse (least squared error), "
        "percentile (cuts off 0.01 % at either end) or minmax (all that was seen).",
    )
    min_sqnr: float | None = Field(
        default=None,
        gt=0,
        le=200,
        description="Budget of an automatic choice: the costliest convolutions stay float until the "
        "signal-to-quantization-noise ratio of the output is at least this, in decibels, by the sum of "
        "what each costs alone; left out, keep_float alone decides.",
    )


def plain_float(params: object) -> CoreMLExport:  # noqa: ARG001 - one reference serves all
    """Return the export that latency is compared with: fp32, without suppression."""
    return CoreMLExport(precision="fp32")
