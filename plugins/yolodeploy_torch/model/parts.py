"""The parts of a model's layers, as recipes select them."""

from __future__ import annotations

from pathlib import Path

from yolodeploy.compress import Part
from yolodeploy_torch.graph import AnyNode, Conv, ConvTranspose, Graph, Linear
from yolodeploy_torch.model.artifact import read_graph
from yolodeploy_torch.model.merging import merged_graph


def layers(graph: Graph) -> tuple[AnyNode, ...]:
    """The nodes with kernels that the output of a model depends on, in order of execution."""
    return tuple(node for node in graph.needed() if isinstance(node, Conv | ConvTranspose | Linear))


def parts(graph: Graph) -> dict[str, Part]:
    """The part of every layer that has a kernel, by its name, in order of execution.

    Recipes select layers by these parts, because the names in a graph change with every release of the
    tools. `backbone` ends where the first map is upsampled, `neck` is what depends on an upsampled map,
    `head` are the branches of the head, `head.last` the last convolution of each, and `dfl` the fixed one that turns the
    distribution of a box side into its mean. What 8 bits harm most has parts of its own, with all its layers:
    `head.proto` makes the prototypes of masks, `head.keypoints` and `head.angle` are the branches of those. Of a
    classifier `head.last` is the matrix that scores classes.
    """
    return {node.name: node.part or "backbone" for node in layers(graph)}


def layer_parts(folder: Path) -> dict[str, Part]:
    """The same of the model in an artifact as it is exported; raises StepFailed if it is damaged."""
    return parts(merged_graph(read_graph(folder)))
