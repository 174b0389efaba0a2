"""Read the model in a checkpoint: what it is, its graph, and its weights. This needs no PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from yolodeploy.backend import ModelInfo
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint.description import Description, describe
from yolodeploy_torch.checkpoint.model import graph_of
from yolodeploy_torch.checkpoint.names import OWN_LAYERS
from yolodeploy_torch.checkpoint.ultralytics import Checkpoint, open_checkpoint
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Floats, Weight
from yolodeploy_torch.graph import Graph, Unsupported
from yolodeploy_torch.model import info

_SUPPORTED = (
    "This version ships models of YOLOv3, YOLOv5u, YOLOv6, YOLOv8, YOLOv9, YOLOv10, YOLO11, YOLO12 and YOLO26 that "
    "Ultralytics trained for detection, segmentation, poses, oriented boxes or classification. Train one of these on your "
    "data."
)
_ANOTHER = "Save it again with the Ultralytics release that trained it, or use another checkpoint."


@dataclass(frozen=True)
class Opened:
    """An open checkpoint of a supported model; its weights can be read until the file is closed."""

    path: Path
    checkpoint: Checkpoint
    description: Description
    graph: Graph
    weights: Mapping[str, Weight]

    @property
    def info(self) -> ModelInfo:
        """What the file says of its model."""
        single = self.checkpoint.single_cls and len(self.graph.head.names) == 1
        return replace(info(self.graph), imgsz=self.checkpoint.imgsz, single_cls=single)

    def numbers(self) -> Iterator[tuple[str, Floats]]:
        """Every weight as float32, by name; raises ModelError for one that is not finite."""
        for name, weight in self.weights.items():
            found = weight.numbers()
            if not np.isfinite(found).all():
                raise ModelError(
                    f"{self.path} is broken: its weight {name} holds NaN or infinity, as after a training "
                    "that diverged. Use an earlier checkpoint."
                )
            yield name, found


@contextlib.contextmanager
def open_model(path: Path) -> Iterator[Opened]:
    """Open a .pt file safely; raises ModelError for one that cannot be loaded, before any weight is read."""
    with open_checkpoint(path) as checkpoint:
        try:
            described = describe(checkpoint.model)
            if not described.supported:
                own = f" {OWN_LAYERS}" if described.altered else ""
                raise ModelError(f"{path} is {described}. {_SUPPORTED}{own}")
            graph, weights = _content(checkpoint.model, path.stat().st_size)
        except Unsupported as error:
            raise ModelError(f"{path} cannot be used: {error}. {_ANOTHER}") from error
        yield Opened(path, checkpoint, described, graph, weights)


def facts(path: Path) -> ModelInfo:
    """What a .pt file says of its model; raises ModelError if `load` would refuse the file."""
    with open_model(path) as opened:
        for _ in opened.numbers():
            pass
        return opened.info


def _content(root: Node, size: int) -> tuple[Graph, dict[str, Weight]]:
    try:
        graph, weights = graph_of(root, size)
        graph.check()
        graph.check_tensors({name: weight.shape for name, weight in weights.items()})
    except (Unsupported, MemoryError):
        raise
    except Exception as error:  # a damaged tree can raise anything
        raise Unsupported(f"its layers are damaged ({type(error).__name__})") from error
    return graph, weights
