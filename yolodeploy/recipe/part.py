"""The base of the blocks of a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of the recipe's blocks: immutable and strict about types; unknown keys are refused.

    The text below a field describes it in messages and in the JSON Schema.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
