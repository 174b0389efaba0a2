"""The shared vocabulary of step parameters.

A plugin uses one of these as it is, or subclasses it to add what only its format offers. Field names
and meanings are the same across backends, so that a recipe reads the same for every target.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from yolodeploy.recipe import Head

Precision = Literal["fp32", "fp16"]
Selector = Annotated[str, Field(min_length=1)]


class Params(BaseModel):
    """Base of all step parameters: immutable and finite; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_bool(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` where a number belongs, because Python would read it as 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and _is_numeric(field.annotation):
            raise ValueError(f"`{info.field_name}: {str(value).lower()}` must be a number")
        return value


def _is_numeric(annotation: Any) -> bool:
    """Whether a type, a member of a union or a value of a literal is a number."""
    return (
        annotation in (int, float)
        or type(annotation) in (int, float)
        or any(map(_is_numeric, get_args(annotation)))
    )


class Load(Params):
    """Read a weights file; which of its heads and classes to keep comes from the recipe's `model`."""

    head: Head | None = Field(
        default=None,
        description="The head that runs; left out, the one that the family is made for.",
    )
    classes: tuple[str, ...] | None = Field(
        default=None,
        description="The classes to keep, as the model names them, in this order; left out, all.",
    )

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the recipe leaves out, so that the ids of steps are those of a release without it."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if value is not None}


class Export(Params):
    """Write the model in the target's format, without compression."""

    precision: Precision = Field(
        default="fp16",
        description="Storage type of the weights: fp32 (as trained) or fp16 (half the size).",
    )


class Quantize(Params):
    """Compute in 8-bit integers: weights and activations (W8A8), with ranges taken from images."""

    keep_float: tuple[Selector, ...] = Field(
        default=("dfl", "decode"),
        description="What stays in floating point: parts of the model (backbone, neck, head, "
        "head.last, head.proto, head.keypoints, head.angle, dfl, decode) and names of convolutions with * and ?.",
    )
    subset: int | None = Field(
        default=None,
        ge=2,
        description="How many of the calibration images to use, spread evenly; left out, all.",
    )
