"""Which maps must have the same 8-bit scale."""

from __future__ import annotations

from yolodeploy_torch.graph import (
    AnyNode,
    Arithmetic,
    Concat,
    Conv,
    Graph,
    Pool,
    Reshape,
    Resize,
    Split,
    Transpose,
)
from yolodeploy_torch.model.trainable import training_values


def unified_scales(graph: Graph) -> dict[str, str]:
    """The 8-bit scale of what every convolution reads, by the name of the convolution.

    A scale bears the name of one of the maps that share it. Maps that are joined, added or read by
    several convolutions do: some runtimes round in front of a join and others behind it, and with one
    scale both are the same. Convolutions that nothing in training depends on have none.
    """
    parents = dict[str, str]()

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    for node in graph.nodes:
        first, *others = _sharing(node)
        for other in others:
            if root(other) != root(first):
                parents[root(other)] = root(first)
    return {
        node.name: root(node.inputs[0])
        for node in graph.needed(*training_values(graph))
        if isinstance(node, Conv) and node.part != "dfl"
    }


def _sharing(node: AnyNode) -> tuple[str, ...]:
    """The values around a node that hold the same numbers, or that it adds."""
    match node:
        case Concat() | Split() | Resize() | Reshape() | Transpose() | Pool(kind="max"):
            moved = node.inputs[:1] if isinstance(node, Resize | Reshape) else node.inputs
            return (*moved, *node.outputs)
        case Arithmetic(kind="add", number=None):
            return (*node.inputs, *node.outputs)
        case _:
            return ("",)
