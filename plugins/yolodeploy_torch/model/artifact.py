"""The artifact format "yolo": a folder with info.json, arch.json and model.safetensors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from yolodeploy.backend import ModelInfo
from yolodeploy.compress import Part
from yolodeploy.errors import StepFailed
from yolodeploy_torch.model.arch import Arch, Unsupported
from yolodeploy_torch.model.layers import convolutions, structure
from yolodeploy_torch.model.modules import Yolo

ARCH_FILE = "arch.json"
WEIGHTS_FILE = "model.safetensors"


def write(folder: Path, arch: Arch, state: Mapping[str, Tensor]) -> None:
    """Write a model as an artifact: unfused float32 weights, sorted by name."""
    info(arch, state).write(folder)
    table = arch.model_dump(mode="json", by_alias=True)
    text = json.dumps(table, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / ARCH_FILE).write_text(text + "\n", encoding="utf-8")
    ordered = {name: state[name].contiguous() for name in sorted(state)}
    save_file(ordered, folder / WEIGHTS_FILE)


def info(arch: Arch, state: Mapping[str, Tensor]) -> ModelInfo:
    """What table and weights say of a model."""
    parameters = sum(value.numel() for name, value in state.items() if _is_parameter(name))
    return ModelInfo("detect", arch.names, arch.strides, parameters, channels=arch.channels)


def read(folder: Path) -> Yolo:
    """Rebuild the model of an artifact, in evaluation mode and without gradients.

    Raises StepFailed if files are missing, damaged, or do not belong together.
    """
    with _naming_damage(folder):
        return rebuild(_arch(folder), load_file(folder / WEIGHTS_FILE))


def read_arch(folder: Path) -> Arch:
    """Read the table of an artifact alone; raises StepFailed if it is missing or damaged."""
    with _naming_damage(folder):
        arch = _arch(folder)
        structure(arch)
        return arch


def layer_parts(folder: Path) -> dict[str, Part]:
    """The part of every convolution of an artifact, by its module's name, in order of execution."""
    return convolutions(read_arch(folder))


def _arch(folder: Path) -> Arch:
    return Arch.model_validate_json((folder / ARCH_FILE).read_bytes())


@contextlib.contextmanager
def _naming_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, Unsupported, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StepFailed(f"{folder} is damaged: {reason}. Build it again.") from error


def rebuild(arch: Arch, state: Mapping[str, Tensor]) -> Yolo:
    """Build the model of a table around its weights; raises `Unsupported` if they do not fit."""
    structure(arch)
    with torch.device("meta"):
        model = Yolo(arch)
    expected = model.state_dict()
    if expected.keys() != state.keys():
        odd = min(expected.keys() ^ state.keys())
        raise Unsupported(f"its weight {odd} is missing, or does not belong to it")
    for name, value in expected.items():
        shape, found = tuple(value.shape), state[name]
        if tuple(found.shape) != shape:
            raise Unsupported(
                f"its weight {name} is {tuple(found.shape)}, but its layers need {shape}"
            )
        if found.dtype != value.dtype:
            raise Unsupported(f"its weight {name} is {found.dtype}, where {value.dtype} is needed")
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def _is_parameter(name: str) -> bool:
    return name.endswith((".weight", ".bias"))
