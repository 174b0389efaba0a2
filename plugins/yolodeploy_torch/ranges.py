"""The ranges that quantization-aware training learned: `ranges.json` beside a model.

Written by the step `qat`, handed on by the exports, and taken by `quantize` in place of calibration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from yolodeploy.errors import PlanRefused, StepFailed

RANGES_FILE = "ranges.json"


class Range(BaseModel):
    """The least and the greatest value that 8 bits stand for; 0 is one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float

    @model_validator(mode="after")
    def _holds_zero(self) -> Self:
        if not self.low <= 0 < self.high:
            raise ValueError("a range reaches from 0 or less to more than 0")
        return self


class Ranges(BaseModel):
    """What the convolutions that compute in 8 bits read and make, by name as in `structure`.

    Both have 256 levels. `reads` are symmetric: -128 to 127 steps. `makes` is what a convolution gives in
    front of its activation, for runtimes that hold that in 8 bits too; the last ones of the head's
    branches, whose result is decoded, are not there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: Mapping[str, Range]
    makes: Mapping[str, Range]

    def write(self, folder: Path) -> None:
        """Write `folder/ranges.json`."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)
        (folder / RANGES_FILE).write_text(text + "\n", encoding="utf-8")

    def require(self, quantized: Iterable[str]) -> None:
        """Raise PlanRefused if other convolutions are to be quantized than were trained for it."""
        odd = sorted(self.reads.keys() ^ set(quantized))
        if odd:
            state = "in 8 bits" if odd[0] in self.reads else "in floating point"
            raise PlanRefused(
                f"`qat` trained {odd[0]} {state}, and `keep_float` here wants the opposite. Give both steps the "
                "same `keep_float`."
            )


def read_ranges(folder: Path) -> Ranges | None:
    """The ranges of an artifact, None if it has none; StepFailed if the file is damaged."""
    try:
        return Ranges.model_validate_json((folder / RANGES_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StepFailed(f"{folder / RANGES_FILE} is damaged: {error}. Build it again.") from error


def carry(source: Path, result: Path) -> None:
    """Hand the ranges of an artifact on to the one that is made of it, if it has any."""
    if (source / RANGES_FILE).is_file():
        shutil.copyfile(source / RANGES_FILE, result / RANGES_FILE)
