"""Parameters of the steps that change the model before it is exported."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from yolodeploy.backend import Params, PinnedFile, Selector

Share = Annotated[float, Field(gt=0, lt=1)]
Gain = Annotated[float, Field(ge=0, le=100)]
Chance = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, lt=1)]


class Gains(NamedTuple):
    """The weights of the parts of a training's loss."""

    labels: float = 1.0
    response: float = 0.0
    feature: float = 0.0


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


class Training(Params):
    """How a step trains: AdamW, the rate rising linearly and falling by a half cosine."""

    epochs: int = Field(
        default=30, ge=1, le=10_000, description="How often every training image is shown."
    )
    batch: int = Field(default=16, ge=1, le=1024, description="Images of one optimizer step.")
    lr: float = Field(default=1e-3, gt=0, le=1, description="The highest learning rate.")
    holdout: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of the training images that is not trained on: the epoch that scores best on "
        "them is taken. With 0 it is the last.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better score on the held-out images.",
    )
    augment: Augment = Field(default=Augment(), description="How the images are varied.")
    device: Literal["cpu", "cuda", "mps"] = Field(
        default="cpu",
        description="Where to train. Only on a CPU are the bytes the same every time.",
    )
    amp: bool = Field(
        default=False,
        description="Compute convolutions in bfloat16: less memory, and faster where the processor can.",
    )
    threads: int = Field(
        default=2, ge=1, le=256, description="CPU threads; another number gives other rounding."
    )

    @property
    def gains(self) -> Gains:
        """What the loss is made of: here the labels alone."""
        return Gains()

    @model_validator(mode="after")
    def _patience_needs_holdout(self) -> Self:
        if self.patience and not self.holdout:
            raise ValueError(
                "`patience` waits for a better score on held-out images, and holdout: 0 holds out none. "
                "Raise `holdout` or leave `patience` out"
            )
        return self


class Prune(Params):
    """Cut whole channels away, which leaves a smaller dense model: structured pruning."""

    keep: Share = Field(default=0.7, description="The share that stays at most.")
    of: Literal["flops", "parameters", "channels"] = Field(
        default="flops",
        description="What `keep` is a share of: the multiply-accumulates, the convolutions' weights, "
        "or the channels.",
    )
    importance: Literal["magnitude", "bn_scale", "taylor"] = Field(
        default="magnitude",
        description="What makes a channel important: the norm of its filter, the scale of its batch "
        "normalisation, or how much the loss would change without it.",
    )
    scope: Literal["global", "layer"] = Field(
        default="layer",
        description="Cut the same share of every layer, or compare channels over the whole model by "
        "importance per FLOP.",
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
    iterations: int = Field(
        default=1,
        ge=1,
        le=20,
        description="In how many rounds to cut; importance is measured anew in each.",
    )
    finetune: Training | None = Field(
        default=None, description="How to train after every round; left out, not at all."
    )

    @field_validator("of", mode="before")
    @classmethod
    def _known_before_export(cls, of: object) -> object:
        if of == "latency":
            raise ValueError(
                "`of: latency` would cut differently on every run, because times vary. Write of: flops, "
                "and hold what ships to `checks: speedup`"
            )
        if of == "size":
            raise ValueError(
                "`of: size` is not known before the steps that choose the storage of the weights. Write "
                "of: parameters: whatever those steps choose, the size shrinks in proportion"
            )
        return of


class Finetune(Training):
    """Train the model further on labelled images."""


class Taught(Training):
    """Training on what a teacher gives, beside the labels."""

    labels: Gain = Field(default=1.0, description="Weight of the loss on the labels.")
    response: Gain = Field(
        default=1.0,
        description="Weight of the difference from the teacher in what every head gives.",
    )

    @property
    def gains(self) -> Gains:
        """The labels, and the teacher's outputs."""
        return Gains(self.labels, self.response)

    @model_validator(mode="after")
    def _learns_from_something(self) -> Self:
        if not any(self.gains):
            zeros = ", ".join(f"{name}: 0" for name in Gains._fields if hasattr(self, name))
            raise ValueError(f"{zeros} leave nothing to learn from. Raise one of them")
        return self


class Distill(Taught):
    """Train the model to give what a better one, its teacher, gives, beside the labels."""

    teacher: PinnedFile | None = Field(
        default=None,
        description="A checkpoint with the same classes, pinned by its sha256; left out, the recipe's "
        "own model as it was loaded.",
    )
    feature: Gain = Field(
        default=0.25, description="Weight of the difference in the maps that the head reads."
    )

    @property
    def gains(self) -> Gains:
        """The labels, the teacher's outputs, and the maps that its head reads."""
        return Gains(self.labels, self.response, self.feature)


class Qat(Taught):
    """Train the model while it computes in fake 8 bits, and learn the ranges: quantization-aware training."""

    epochs: int = Field(
        default=5, ge=1, le=10_000, description="How often every training image is shown."
    )
    lr: float = Field(default=1e-4, gt=0, le=1, description="The highest learning rate.")
    keep_float: tuple[Selector, ...] = Field(
        default=("dfl", "decode"),
        description="What is trained in floating point: the `keep_float` of the `quantize` that follows.",
    )
    range_rate: float = Field(
        default=10.0,
        ge=0,
        le=1000,
        description="Learning rate of the ranges, times that of the weights; 0 keeps those of least squared "
        "error on 32 of the training images.",
    )
