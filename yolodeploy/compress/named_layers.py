"""The names and parts of a model's layers: `layers.json` beside every exported model.

The exports write it, where both the checkpoint and the graph are known; the steps behind them hand it
on, and nobody has to guess from a graph which layer of the checkpoint an operation is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yolodeploy.compress.layers import Part
from yolodeploy.compress.learned_ranges import RANGES_FILE
from yolodeploy.errors import StepFailed

LAYERS_FILE = "layers.json"


class _Layers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: dict[str, Part] = Field(min_length=1)


def write_layers(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write `folder/layers.json`: the part of every layer with weights, in order of execution.

    The names are those of the modules in the checkpoint, such as `model.0.conv`.
    """
    text = json.dumps({"layers": dict(parts)}, indent=1)
    file = folder / LAYERS_FILE
    file.write_text(text + "\n", encoding="utf-8")
    file.chmod(0o644)  # whatever the umask is: the same inputs give the same bytes and modes


def read_layers(folder: Path) -> dict[str, Part]:
    """Read the part of every layer with weights, by name, in order of execution.

    Raises StepFailed if the artifact has no such file, or a damaged one.
    """
    file = folder / LAYERS_FILE
    try:
        return _Layers.model_validate_json(file.read_bytes()).layers
    except FileNotFoundError:
        raise StepFailed(
            f"{file} is missing, which names the model's layers. Export the model again."
        ) from None
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StepFailed(f"{file} is damaged: {reason}. Build it again.") from error


def layer_named(module: str, parts: Mapping[str, Part]) -> str | None:
    """The layer of `parts` that a module is, whatever modules it lies in; None if it is none of them.

    `detector.model.0.conv`, in a model that was wrapped for an export, is `model.0.conv`.
    """
    while module and module not in parts:
        module = module.partition(".")[2]
    return module or None


def carry(source: Path, result: Path) -> None:
    """Copy the layers' names and the learned ranges, as far as an artifact has them, to its successor."""
    carry_layers(source, result)
    if (source / RANGES_FILE).is_file():
        shutil.copyfile(source / RANGES_FILE, result / RANGES_FILE)


def carry_layers(source: Path, result: Path) -> None:
    """Copy the layers' names alone: for a step that uses the learned ranges up."""
    if (source / LAYERS_FILE).is_file():
        shutil.copyfile(source / LAYERS_FILE, result / LAYERS_FILE)
