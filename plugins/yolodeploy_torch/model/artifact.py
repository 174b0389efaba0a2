"""The artifact format "yolo": a folder with info.json, graph.json and model.safetensors.

Only what has to do with weights imports PyTorch.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError

from yolodeploy.backend import ModelInfo
from yolodeploy.errors import StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Classification, Graph, OpenHead, Unsupported

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from yolodeploy_torch.graph import State

GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "model.safetensors"


def write(folder: Path, graph: Graph, state: State) -> None:
    """Write a model as an artifact: unfused float32 weights, sorted by name."""
    from safetensors.torch import save_file

    info(graph).write(folder)
    content = graph.model_dump(mode="json", exclude_defaults=True)
    for row, node in zip(content["nodes"], graph.nodes, strict=True):
        row["op"] = node.op
    text = json.dumps(
        {"format": graph.format, **content}, indent=1, sort_keys=True, ensure_ascii=False
    )
    (folder / GRAPH_FILE).write_text(text + "\n", encoding="utf-8")
    ordered = {name: state[name].contiguous() for name in sorted(state)}
    save_file(ordered, folder / WEIGHTS_FILE)


def write_module(folder: Path, module: GraphModule) -> None:
    """Write a model that was changed in training."""
    from yolodeploy_torch.graph import graph_in

    write(folder, graph_in(module), module.state_dict())


def info(graph: Graph) -> ModelInfo:
    """What a graph says of a model; its parameters are those that its outputs depend on."""
    parameters = sum(
        math.prod(shape)
        for node in graph.needed()
        for key, shape in node.weights().items()
        if not key.startswith("running_")
    )
    head = graph.head
    return ModelInfo(
        graph.task,
        head.names,
        head.strides,
        parameters,
        channels=graph.channels,
        head=graph.selected,
        heads=graph.heads,
        known="layers" if isinstance(head, OpenHead) else "head",
        fit="crop" if graph.task == "classify" else "center",
        kpt_shape=None if isinstance(head, Classification) else head.kpt_shape,
    )


def read(folder: Path) -> GraphModule:
    """Rebuild the model of an artifact, in evaluation mode and without gradients.

    Raises StepFailed if files are missing, damaged, or do not belong together.
    """
    from safetensors.torch import load_file

    from yolodeploy_torch.graph import build

    with _naming_damage(folder):
        return build(_graph(folder), load_file(folder / WEIGHTS_FILE))


def read_graph(folder: Path) -> Graph:
    """Read the graph of an artifact alone; raises StepFailed if it is missing or damaged."""
    with _naming_damage(folder):
        graph = _graph(folder)
        graph.check()
        return graph


def anchor_count(folder: Path, imgsz: ImageShape) -> int:
    """How many anchors (or queries) the output of an artifact has for an image, 1 if it is about the whole image.

    Raises StepFailed as `read_graph` does.
    """
    graph = read_graph(folder)
    _, _, *anchors = graph.shapes(imgsz.height, imgsz.width)[graph.output]
    return anchors[0] if anchors else 1


def _graph(folder: Path) -> Graph:
    return Graph.model_validate_json((folder / GRAPH_FILE).read_bytes())


@contextlib.contextmanager
def _naming_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, Unsupported, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StepFailed(f"{folder} is damaged: {reason}. Build it again.") from error
