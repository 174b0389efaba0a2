"""The ranges that quantization-aware training learned: `ranges.json` beside a model.

The step `qat` writes them, the exports hand them on, and `quantize` takes them in place of calibration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from yolodeploy.errors import PlanRefused, StepFailed

RANGES_FILE = "ranges.json"


class Range(BaseModel):
    """The lowest and the highest value that 8 bits represent; 0 is among the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float

    @model_validator(mode="after")
    def _holds_zero(self) -> Self:
        if not self.low <= 0 < self.high:
            raise ValueError("a range must start at 0 or below and end above 0")
        return self


class Ranges(BaseModel):
    """The ranges of the inputs and outputs of the convolutions that compute in 8 bits, by name.

    Both have 256 levels. `reads`, of the inputs, are symmetric: -128 to 127 steps. `makes`, of the
    outputs before the activation, are for runtimes that hold these in 8 bits too; the last
    convolutions of the head's branches, whose output is decoded, have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: Mapping[str, Range]
    makes: Mapping[str, Range]

    def write(self, folder: Path) -> None:
        """Write `folder/ranges.json`."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)
        (folder / RANGES_FILE).write_text(text + "\n", encoding="utf-8")

    def require(self, quantized: Iterable[str]) -> None:
        """Raise PlanRefused unless exactly the convolutions that were trained for it are `quantized`."""
        odd = sorted(self.reads.keys() ^ set(quantized))
        if odd:
            state = "in 8 bits" if odd[0] in self.reads else "in floating point"
            raise PlanRefused(
                f"`qat` trained {odd[0]} {state}, and `keep_float` here wants the opposite. Give both steps the "
                "same `keep_float`."
            )


def read_ranges(folder: Path) -> Ranges | None:
    """Read the ranges of an artifact; None if it has none. Raises StepFailed if the file is damaged."""
    try:
        return Ranges.model_validate_json((folder / RANGES_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StepFailed(f"{folder / RANGES_FILE} is damaged: {error}. Build it again.") from error
