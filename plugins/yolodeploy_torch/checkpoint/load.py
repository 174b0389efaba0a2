"""The step `load`: reads a weights file into the artifact format "yolo"."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.fx import GraphModule

from yolodeploy.backend import Artifact, Context, Load, Params
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint import ultralytics
from yolodeploy_torch.checkpoint.reading import open_model
from yolodeploy_torch.checkpoint.weights import Stored
from yolodeploy_torch.graph import Graph, build
from yolodeploy_torch.model import keep_classes, threads, write


def load(artifact: Artifact, params: Params, context: Context) -> Path:
    """Read `artifact.path`, a .pt file, safely, and write the model into the work folder."""
    with threads(1):
        graph, state = _read(artifact.path)
        graph, state = _as_asked(graph, state, cast("Load", params), artifact.path)
        write(context.work, graph, state)
    return context.work


def read_checkpoint_model(path: Path) -> GraphModule:
    """Read a .pt file safely, as `load` does; in evaluation mode and without gradients."""
    return build(*_read(path))


def read_values(path: Path) -> object:
    """Return what `torch.save` wrote, as plain values and tensors; raises ModelError if it is unsafe."""
    return ultralytics.read_values(path, _tensor)


def _tensor(stored: Stored) -> Tensor:
    return torch.from_numpy(stored.numbers())


def _read(path: Path) -> tuple[Graph, dict[str, Tensor]]:
    with open_model(path) as opened:
        return opened.graph, {name: torch.from_numpy(found) for name, found in opened.numbers()}


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
    if graph.task == "classify" and len(params.classes) == 1:
        raise ModelError(
            f"`classes` keeps only `{params.classes[0]}` of {path}, and a classifier of one class gives it to every image. "
            "Keep at least 2."
        )
    return keep_classes(graph, state, [graph.head.names.index(name) for name in params.classes])
