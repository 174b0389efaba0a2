"""Parameters of this backend's steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from yolodeploy import backend
from yolodeploy.backend import Export, Params, Selector

Bits = Literal[1, 2, 3, 4, 6, 8]
# Where `optimize` stops; docs/decisions/009-core-ml-weights.md says how these were found.
NOISE = {"size": 0.1, "accuracy": 0.005}
# Never compressed: boxes depend on the constants of these parts exactly, and they mix pixels with scores.
UNTOUCHED = ("dfl", "decode")


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
        unused = sorted({"iou", "confidence"} & self.model_fields_set)
        if unused and not self.nms:
            raise ValueError(f"{', '.join(unused)} has no effect without nms. Add `nms: true`.")
        return self


class WeightParams(Params):
    """Parameters that all steps that compress weights share."""

    keep_float: tuple[Selector, ...] = Field(
        default=UNTOUCHED,
        description="What is not compressed: parts of the model (backbone, neck, head, head.last, head.proto, "
        "head.keypoints, head.angle, dfl, decode) and names of convolutions with * and ?.",
    )
    compensate: bool = Field(
        default=False,
        description="Round each weight so that the errors of those rounded before are made up for, "
        "as the calibration images show them (GPTQ).",
    )

    @property
    def calibrated(self) -> bool:
        """Whether the step looks at calibration images."""
        return self.compensate


class Palettize(WeightParams):
    """Store each convolution's weights as a table of 2**bits values and an index per weight."""

    bits: Bits = Field(
        default=8,
        description="Bits per weight; Core ML has no tables of 5 or 7 bits, and 3 from iOS 18 on.",
    )
    mode: Literal["kmeans", "uniform"] = Field(
        default="kmeans",
        description="How the values are chosen: kmeans (where the weights are) or uniform (evenly spaced).",
    )
    group_size: int | None = Field(
        default=None,
        ge=1,
        description="So many output channels share a table; left out, all of them. From iOS 18 on.",
    )
    layers: dict[Selector, Bits] = Field(
        default={},
        description="Bits of single layers, by part of the model or name with * and ?.",
    )
    optimize: Literal["size", "accuracy"] | None = Field(
        default=None,
        description="Choose the bits of every layer by what they cost, with `compensate`: the smallest "
        "package that stays close (size) or very close (accuracy) to the float model.",
    )
    max_mb: float | None = Field(
        default=None,
        gt=0,
        description="With optimize: megabytes that the package may have. optimize: accuracy then gets "
        "as close to the float model as they allow.",
    )
    max_noise: float | None = Field(
        default=None,
        gt=0,
        description="With optimize: noise that all layers together may add to the output, in place of "
        f"{NOISE['size']} for size and {NOISE['accuracy']} for accuracy.",
    )

    @property
    def calibrated(self) -> bool:
        """Whether the step looks at calibration images."""
        return self.compensate or self.optimize is not None

    @model_validator(mode="after")
    def _optimize_excludes_other_choices(self) -> Palettize:
        budgets = sorted({"max_mb", "max_noise"} & self.model_fields_set)
        if budgets and self.optimize is None:
            raise ValueError(
                f"{', '.join(budgets)} has no effect without optimize. Add `optimize: size` or "
                "`optimize: accuracy`."
            )
        given = sorted({"bits", "compensate", "mode"} & self.model_fields_set)
        if self.optimize and given:
            raise ValueError(
                f"optimize chooses {', '.join(given)} itself. Remove {'it' if len(given) == 1 else 'them'}, "
                "or give single layers their bits with `layers`."
            )
        return self


class QuantizeWeights(WeightParams):
    """Store each convolution's weights as 8- or 4-bit integers with scales."""

    bits: Literal[4, 8] = Field(
        default=8,
        description="8: int8 with a scale and zero point per output channel. 4: int4 with a scale per "
        "block, from iOS 18 on.",
    )
    block_size: int = Field(
        default=32,
        ge=1,
        description="With bits: 4, at most so many input channels share a scale, as far as they "
        "divide into equal blocks.",
    )

    @model_validator(mode="after")
    def _blocks_need_int4(self) -> QuantizeWeights:
        if "block_size" in self.model_fields_set and self.bits == 8:
            raise ValueError("block_size has no effect with 8 bits. Remove it, or write bits: 4.")
        return self


class Sparsify(WeightParams):
    """Set each convolution's smallest weights to zero and store only the others (pruning)."""

    ratio: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="Share of the weights that become zero, the smallest by magnitude.",
    )
    scope: Literal["layer", "global"] = Field(
        default="global",
        description="Where the smallest are looked for: in each layer, or in all layers together.",
    )
    compensate: bool = Field(
        default=True,
        description="Change the weights that stay so that they make up for those that go, as the "
        "calibration images show it.",
    )
    n_m: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]?:[1-9][0-9]?$",
        description='In place of ratio, as "2:4": of every 4 neighbours among the input channels the 2 '
        "smallest become zero. A layer whose input channels 4 does not divide stays as it is.",
    )

    @property
    def pattern(self) -> tuple[int, int] | None:
        """How many of how many neighbours become zero, in the order of coremltools' `n_m_ratio`."""
        if self.n_m is None:
            return None
        zeros, run = map(int, self.n_m.split(":"))
        return zeros, run

    @model_validator(mode="after")
    def _one_rule(self) -> Sparsify:
        unused = sorted({"ratio", "scope"} & self.model_fields_set)
        if self.n_m and unused:
            raise ValueError(f"n_m decides alone. Remove {' and '.join(unused)}, or remove n_m.")
        if self.pattern and self.pattern[0] >= self.pattern[1]:
            raise ValueError(f'n_m: "{self.n_m}" leaves nothing. Write fewer zeros than weights, as "2:4".')  # fmt: skip
        return self


class Quantize(backend.Quantize):
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
        "what each costs alone; left out, keep_float and spare_dominant decide.",
    )
    spare_dominant: bool = Field(
        default=False,
        description="Leave convolutions float that alone cost more than all others together, three at most; they are "
        "looked for on four of the images, which takes as long as `yolodeploy sensitivity`. With min_sqnr that decides.",
    )
