"""The step `load`: a weights file -> the artifact format "yolo"."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import ModelError
from yolodeploy.transforms import Params
from yolodeploy_torch import folder, tree
from yolodeploy_torch.arch import Arch, Unsupported
from yolodeploy_torch.checkpoint import read_checkpoint
from yolodeploy_torch.compute import threads
from yolodeploy_torch.inert import Node
from yolodeploy_torch.modules import Yolo


def load(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001
    """Read `artifact.path`, a .pt file, safely, and write the model into the work folder."""
    with threads(1):
        folder.write(context.work, *_read(artifact.path))
    return context.work


def read_checkpoint_model(path: Path) -> Yolo:
    """Read a .pt file safely, as `load` does; in evaluation mode and without gradients."""
    return folder.rebuild(*_read(path))


def _read(path: Path) -> tuple[Arch, dict[str, Tensor]]:
    root = read_checkpoint(path)
    try:
        arch, state = _content(root, path.stat().st_size)
    except Unsupported as error:
        raise ModelError(
            f"{path} cannot be used: {error}. This version supports YOLOv8 detection models "
            "as Ultralytics saves them."
        ) from error
    _check_finite(path, state)
    return arch, state


def _content(root: Node, size: int) -> tuple[Arch, dict[str, Tensor]]:
    try:
        arch = tree.architecture(root)
        state = {name: _single(value) for name, value in _stored(root, size).items()}
        # Rebuilding compares every name, shape and type.
        folder.rebuild(arch, state)
    except (Unsupported, MemoryError):
        raise
    except Exception as error:  # whatever a damaged tree makes its reader stumble over
        raise Unsupported(f"its layers are damaged ({type(error).__name__})") from error
    return arch, state


def _stored(root: Node, size: int) -> dict[str, Tensor]:
    found = tree.weights(root)
    if sum(value.nbytes for value in found.values()) > size:  # views of the same few numbers
        raise Unsupported("its weights take more bytes than the file has")
    return found


def _single(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.is_floating_point() else value


def _check_finite(path: Path, state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{path} is broken: its weight {name} holds NaN or infinity, as after a training "
                "that diverged. Use an earlier checkpoint."
            )
