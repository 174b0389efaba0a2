"""The step `load`: reads a weights file into the artifact format "yolo"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.fx import GraphModule

from yolodeploy.backend import Artifact, Context, Load, ModelInfo, Params
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint.description import describe
from yolodeploy_torch.checkpoint.model import graph_of
from yolodeploy_torch.checkpoint.ultralytics import Checkpoint, read_checkpoint
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Graph, Unsupported, build, check_weights
from yolodeploy_torch.model import info, keep_classes, threads, write

_SUPPORTED = (
    "This version ships detection models of YOLOv3, YOLOv5u, YOLOv6, YOLOv8, YOLOv9, YOLOv10, YOLO11, YOLO12 and YOLO26 "
    "that Ultralytics trained. Train one of these on your data."
)
_ANOTHER = "Save it again with the Ultralytics release that trained it, or use another checkpoint."


def load(artifact: Artifact, params: Params, context: Context) -> Path:
    """Read `artifact.path`, a .pt file, safely, and write the model into the work folder."""
    with threads(1):
        graph, state, _ = _read(artifact.path)
        graph, state = _as_asked(graph, state, cast("Load", params), artifact.path)
        write(context.work, graph, state)
    return context.work


def facts(path: Path) -> ModelInfo:
    """What a .pt file says of its model; raises ModelError if `load` would refuse the file."""
    with threads(1):
        graph, _, checkpoint = _read(path)
    single = checkpoint.single_cls and len(graph.head.names) == 1
    return replace(info(graph), imgsz=checkpoint.imgsz, single_cls=single)


def read_checkpoint_model(path: Path) -> GraphModule:
    """Read a .pt file safely, as `load` does; in evaluation mode and without gradients."""
    graph, state, _ = _read(path)
    return build(graph, state)


def _as_asked(
    graph: Graph, state: dict[str, Tensor], params: Load, path: Path
) -> tuple[Graph, dict[str, Tensor]]:
    """Choose head and classes; planning has checked both against the facts."""
    if params.head and params.head not in graph.heads:
        raise ModelError(f"{path} has no {params.head} head, only {graph.selected}.")
    if params.head:
        graph = graph.model_copy(update={"selected": params.head})
    if params.classes is None:
        return graph, state
    missing = [name for name in params.classes if name not in graph.head.names]
    if missing:
        raise ModelError(f"{path} knows no class `{missing[0]}`.")
    return keep_classes(graph, state, [graph.head.names.index(name) for name in params.classes])


def _read(path: Path) -> tuple[Graph, dict[str, Tensor], Checkpoint]:
    checkpoint = read_checkpoint(path)
    try:
        described = describe(checkpoint.model)
        if not described.supported:
            raise ModelError(f"{path} is {described}. {_SUPPORTED}")
        graph, state = _content(checkpoint.model, path.stat().st_size)
    except Unsupported as error:
        raise ModelError(f"{path} cannot be used: {error}. {_ANOTHER}") from error
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{path} is broken: its weight {name} holds NaN or infinity, as after a training "
                "that diverged. Use an earlier checkpoint."
            )
    return graph, state, checkpoint


def _content(root: Node, size: int) -> tuple[Graph, dict[str, Tensor]]:
    try:
        graph, state = graph_of(root, size)
        graph.check()
        check_weights(graph, state)
    except (Unsupported, MemoryError):
        raise
    except Exception as error:  # a damaged tree can raise anything
        raise Unsupported(f"its layers are damaged ({type(error).__name__})") from error
    return graph, state
