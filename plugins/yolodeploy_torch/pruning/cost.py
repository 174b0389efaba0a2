"""What a model costs with fewer channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import (
    AnyNode,
    Conv,
    ConvTranspose,
    Graph,
    Linear,
    MatMul,
    Shape,
)
from yolodeploy_torch.model import Group, Structure, merged_graph, node_macs

Sizes = Mapping[Group, int]
_Floats = NDArray[np.float64]
_Axes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Cost:
    """A sum over nodes: a factor times the numbers of channels in the axes that the node's cost grows with.

    `counts` [axes, nodes, groups + 1] are the channels of an axis per channel of a group, and those that stay.
    """

    groups: tuple[Group, ...]
    factors: _Floats
    counts: _Floats

    def __call__(self, sizes: Sizes) -> float:
        """The cost with these sizes of the groups."""
        given = np.array([*(sizes[group] for group in self.groups), 1], np.float64)
        return float(self.factors @ (self.counts @ given).prod(0))


def flops(graph: Graph, found: Structure, imgsz: ImageShape) -> Cost:
    """Multiply-accumulates of what the output needs, for images of this size.

    Parallel convolutions count once, as they are merged for the target; the fixed one of the box decoding does not.
    """
    graph = merged_graph(graph)
    shapes = graph.shapes(imgsz.height, imgsz.width)

    def macs(node: AnyNode) -> int:
        return node_macs(node, [shapes[value] for value in node.inputs], shapes[node.outputs[0]])

    return _cost(graph, found, shapes, macs)


def weights(graph: Graph, found: Structure, imgsz: ImageShape) -> Cost:
    """Weights of the convolutions and matrices that the output needs, without biases."""

    def count(node: AnyNode) -> int:
        return math.prod(node.weights()["weight"]) if _has_kernel(node) else 0

    graph = merged_graph(graph)
    return _cost(graph, found, graph.shapes(imgsz.height, imgsz.width), count)


def channels(graph: Graph, found: Structure) -> Cost:
    """Channels of the groups that the output needs."""
    needed = [value for node in graph.needed() for value in node.outputs]
    used = np.zeros(1 + sum(group.size for group in found.groups), bool)
    for value in needed:
        if value in found.channels:
            used[found.channels[value].numbers] = True
    factors = np.array([float(used[group.first]) for group in found.groups])
    counts = np.eye(len(factors), len(factors) + 1)[None]
    return Cost(found.groups, factors, counts)


def _has_kernel(node: AnyNode) -> bool:
    return isinstance(node, Conv | ConvTranspose | Linear)


def _cost(
    graph: Graph, found: Structure, shapes: Mapping[str, Shape], whole: Callable[[AnyNode], int]
) -> Cost:
    of_number = np.repeat(np.arange(len(found.groups)), [group.size for group in found.groups])
    sizes = np.array([group.size for group in found.groups])

    def per_channel(value: str, axis: int) -> _Floats:
        numbers = found.numbers(value, axis)
        if numbers is None:
            return np.array([*np.zeros(len(sizes)), shapes[value][axis]])
        moving = numbers[numbers > 0]
        counts = np.bincount(of_number[moving - 1], minlength=len(sizes))
        return np.array([*(counts / sizes), len(numbers) - len(moving)])

    nodes = [node for node in graph.needed() if whole(node) and node.part != "dfl"]
    counts = np.zeros((3, len(nodes), len(sizes) + 1))
    counts[:, :, -1] = 1
    for row, node in enumerate(nodes):
        for place, (value, axis) in enumerate(_axes(node, shapes)):
            counts[place, row] = per_channel(value, axis)
    unpruned = Cost(found.groups, np.array([float(whole(node)) for node in nodes]), counts)
    products = (counts @ np.array([*sizes, 1.0])).prod(0)
    return Cost(found.groups, unpruned.factors / products, counts)


def _axes(node: AnyNode, shapes: Mapping[str, Shape]) -> _Axes:
    """The axes whose lengths the cost of a node is proportional to; other axes are not cut."""
    made = node.outputs[0]
    match node:
        case Conv(groups=1) | ConvTranspose():
            return (made, 1), (node.inputs[0], 1)
        case Conv():
            return ((made, 1),)
        case Linear() if len(shapes[made]) == 2:
            return ((node.inputs[0], 1),)
        case MatMul():
            axes = len(shapes[made])
            return (made, axes - 2), (made, axes - 1), (node.inputs[0], axes - 1)
        case _:
            return ()
