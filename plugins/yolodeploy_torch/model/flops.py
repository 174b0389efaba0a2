"""How much a model computes, read off its graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from yolodeploy.backend import Counts, ModelInfo
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import AnyNode, Conv, ConvTranspose, Graph, Linear, MatMul, Shape
from yolodeploy_torch.model.artifact import read_graph
from yolodeploy_torch.model.merging import merged_graph


def counts(path: Path, imgsz: ImageShape) -> Counts:
    """Parameters as trained (batch normalisation included), and operations of convolutions and matrix products.

    Parallel convolutions count as the one that they are merged into. Activations, additions and pooling are left
    out, as in PyTorch's own FLOP counter. Raises StepFailed if the artifact in the folder `path` is damaged.
    """
    graph = merged_graph(read_graph(path))
    return Counts(ModelInfo.read(path).parameters, macs(graph, imgsz.height, imgsz.width))


def macs(graph: Graph, height: int, width: int) -> int:
    """Multiply-accumulates for an image of this size."""
    shapes = graph.shapes(height, width)
    return sum(
        node_macs(node, [shapes[value] for value in node.inputs], shapes[node.outputs[0]])
        for node in graph.needed()
    )


def node_macs(node: AnyNode, given: Sequence[Shape], made: Shape) -> int:
    """Multiply-accumulates of one node, which makes a value of this shape from values of those."""
    match node:
        case Conv():
            return math.prod(made) * node.channels[0] // node.groups * math.prod(node.kernel)
        case ConvTranspose():
            return math.prod(given[0]) * node.channels[1] * math.prod(node.kernel)
        case Linear():
            return math.prod(made) * node.channels[0]
        case MatMul():
            return math.prod(made) * given[0][-1]
        case _:
            return 0
