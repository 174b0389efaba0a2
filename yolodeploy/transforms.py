"""The shared vocabulary of step parameters.

A plugin takes one of these as it is, or subclasses it to add what only its format
offers. Field names and meanings stay the same across backends, so that a recipe reads
the same for every target.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "fp16"]


class Params(BaseModel):
    """Base of all step parameters: immutable, finite, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Export(Params):
    """Write the model in the target's format, without compression."""

    precision: Precision = Field(
        default="fp16",
        description="Storage type of the weights: fp32 (as trained) or fp16 (half the size).",
    )
