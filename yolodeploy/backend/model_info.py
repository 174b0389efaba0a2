"""What the core needs to know about a model; the loading step writes it into its artifact."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from yolodeploy.errors import StepFailed

INFO_FILE = "info.json"


@dataclass(frozen=True)
class ModelInfo:
    """A model's task, class names, strides and number of parameters, kept in `info.json`."""

    task: str
    names: tuple[str, ...]
    strides: tuple[int, ...]
    parameters: int

    def write(self, folder: Path) -> None:
        """Write `folder/info.json`."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `folder/info.json`; StepFailed if it is not what `write` writes."""
        file = folder / INFO_FILE
        try:
            return TypeAdapter(cls).validate_json(file.read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            raise StepFailed(
                f"{file} is damaged ({type(error).__name__}). Build it again."
            ) from error
