"""What the core needs to know of a model, as the loading step leaves it in the artifact."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.errors import StepFailed

INFO_FILE = "info.json"


@dataclass(frozen=True)
class ModelInfo:
    """What the core needs to know of a model; written by the loading step as `info.json`."""

    task: str
    names: tuple[str, ...]
    strides: tuple[int, ...]
    parameters: int

    def write(self, folder: Path) -> None:
        """Write `folder/info.json`."""
        text = json.dumps(self.__dict__, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `folder/info.json`, as written by `write`; StepFailed if it is anything else."""
        file = folder / INFO_FILE
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            info = cls(raw["task"], tuple(raw["names"]), tuple(raw["strides"]), raw["parameters"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = type(error).__name__
            raise StepFailed(f"{file} is damaged ({reason}). Build it again.") from error
        if not info._is_sound():
            raise StepFailed(f"{file} is damaged (a value of another type). Build it again.")
        return info

    def _is_sound(self) -> bool:
        texts, numbers = (self.task, *self.names), (self.parameters, *self.strides)
        return all(type(t) is str for t in texts) and all(type(n) is int for n in numbers)
