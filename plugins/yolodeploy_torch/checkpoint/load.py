"""The step `load`: reads a weights file into the artifact format "yolo"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context, ModelInfo, Params
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint.architecture import architecture, weights
from yolodeploy_torch.checkpoint.description import describe
from yolodeploy_torch.checkpoint.ultralytics import Checkpoint, read_checkpoint
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.model import Arch, Unsupported, Yolo, info, rebuild, threads, write

_SUPPORTED = (
    "This version ships YOLOv8 detection models with SiLU activations, as Ultralytics trains them from "
    "yolov8n.pt to yolov8x.pt. Train one of these on your data."
)


def load(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001
    """Read `artifact.path`, a .pt file, safely, and write the model into the work folder."""
    with threads(1):
        arch, state, _ = _read(artifact.path)
        write(context.work, arch, state)
    return context.work


def facts(path: Path) -> ModelInfo:
    """What a .pt file says of its model; raises ModelError if `load` would refuse the file."""
    with threads(1):
        arch, state, checkpoint = _read(path)
    single = checkpoint.single_cls and len(arch.names) == 1
    return replace(info(arch, state), imgsz=checkpoint.imgsz, single_cls=single)


def read_checkpoint_model(path: Path) -> Yolo:
    """Read a .pt file safely, as `load` does; in evaluation mode and without gradients."""
    arch, state, _ = _read(path)
    return rebuild(arch, state)


def _read(path: Path) -> tuple[Arch, dict[str, Tensor], Checkpoint]:
    checkpoint = read_checkpoint(path)
    try:
        described = describe(checkpoint.model)
        if not described.supported:
            raise ModelError(f"{path} is {described}. {_SUPPORTED}")
        arch, state = _content(checkpoint.model, path.stat().st_size)
    except Unsupported as error:
        raise ModelError(f"{path} cannot be used: {error}. {_SUPPORTED}") from error
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{path} is broken: its weight {name} holds NaN or infinity, as after a training "
                "that diverged. Use an earlier checkpoint."
            )
    return arch, state, checkpoint


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
