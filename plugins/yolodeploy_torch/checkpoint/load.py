"""The step `load`: reads a weights file into the artifact format "yolo"."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context, Params
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint.architecture import architecture, weights
from yolodeploy_torch.checkpoint.ultralytics import read_checkpoint
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.model import Arch, Unsupported, Yolo, rebuild, threads, write


def load(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001
    """Read `artifact.path`, a .pt file, safely, and write the model into the work folder."""
    with threads(1):
        write(context.work, *_read(artifact.path))
    return context.work


def read_checkpoint_model(path: Path) -> Yolo:
    """Read a .pt file safely, as `load` does; in evaluation mode and without gradients."""
    return rebuild(*_read(path))


def _read(path: Path) -> tuple[Arch, dict[str, Tensor]]:
    root = read_checkpoint(path)
    try:
        arch, state = _content(root, path.stat().st_size)
    except Unsupported as error:
        raise ModelError(
            f"{path} cannot be used: {error}. This version supports YOLOv8 detection models "
            "as Ultralytics saves them."
        ) from error
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{path} is broken: its weight {name} holds NaN or infinity, as after a training "
                "that diverged. Use an earlier checkpoint."
            )
    return arch, state


def _content(root: Node, size: int) -> tuple[Arch, dict[str, Tensor]]:
    try:
        arch, found = architecture(root), _bounded(weights(root), size)
        state = {n: v.float() if v.is_floating_point() else v for n, v in found.items()}
        rebuild(arch, state)  # raises if a weight does not fit the table
    except (Unsupported, MemoryError):
        raise
    except Exception as error:  # a damaged tree can raise anything
        raise Unsupported(f"its layers are damaged ({type(error).__name__})") from error
    return arch, state


def _bounded(state: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Refuse weights that are views of the same few numbers, which a small file could blow up."""
    if sum(value.nbytes for value in state.values()) > size:
        raise Unsupported("its weights take more bytes than the file has")
    return state
