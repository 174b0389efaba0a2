"""Remove channels from a model: a smaller graph, and the weights that remain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from yolodeploy_torch.graph import (
    AnyNode,
    BatchNorm,
    Constant,
    Conv,
    ConvTranspose,
    Graph,
    Linear,
    Reshape,
    Split,
    State,
)
from yolodeploy_torch.model import Group, Numbers, Structure

Kept = Mapping[Group, Tensor]  # for every group the indices of its channels that stay, ascending


class Cut:
    """Says which channels of every value stay."""

    def __init__(self, found: Structure, kept: Kept) -> None:
        self._found = found
        self._stays = torch.zeros(1 + sum(group.size for group in found.groups), dtype=torch.bool)
        self._stays[0] = True
        for group, channels in kept.items():
            self._stays[group.first + channels] = True

    def stay(self, value: str, axis: int = 1) -> Tensor | None:
        """The indices in an axis of a value that stay; None if all do."""
        numbers = self._found.numbers(value, axis)
        return None if numbers is None else self.of(numbers)

    def of(self, numbers: Numbers) -> Tensor:
        """The same for the numbers of channels."""
        return self._stays[torch.from_numpy(numbers)].nonzero()[:, 0]


def shrink(graph: Graph, state: State, found: Structure, kept: Kept) -> tuple[Graph, State]:
    """Return graph and weights with only the channels in `kept`.

    The model's output changes by what the removed channels carried, and the batch statistics no longer
    fit: see `recalibrate`.
    """
    cut, smaller = Cut(found, kept), dict(state)
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        nodes.append(_node(node, found, cut))
        for key, axes in _axes(node).items():
            name = f"{node.name}.{key}" if key else node.name
            for axis, value in axes.items():
                if (stay := cut.stay(value)) is not None:
                    smaller[name] = smaller[name].index_select(axis, stay).contiguous()
    made = graph.replaced(nodes, {})
    made.check()
    return made, smaller


def _axes(node: AnyNode) -> Mapping[str, Mapping[int, str]]:
    """The axes of a node's tensors that are the channels of a value, by the end of the tensor's name."""
    made, read = node.name, node.inputs[0]
    match node:
        case Conv():
            own = {0: made, 1: read} if node.groups == 1 else {0: made}
            return {key: own if key == "weight" else {0: made} for key in node.weights()}
        case ConvTranspose():
            own = {0: read, 1: made}
            return {key: own if key == "weight" else {0: made} for key in node.weights()}
        case Linear():
            return {"weight": {1: read}}
        case BatchNorm():
            return {key: {0: made} for key in node.weights()}
        case Constant():
            return {"": {1: made}}
        case _:
            return {}


def _node(node: AnyNode, found: Structure, cut: Cut) -> AnyNode:
    """The same node with the numbers of channels that are left."""

    def count(value: str, otherwise: int, axis: int = 1) -> int:
        stay = cut.stay(value, axis)
        return otherwise if stay is None else len(stay)

    changes: dict[str, object] = {}
    match node:
        case Conv() | ConvTranspose():
            inputs = count(node.inputs[0], node.channels[0])
            changes["channels"] = inputs, count(node.name, node.channels[1])
            if isinstance(node, Conv) and node.groups > 1:
                changes["groups"] = inputs * node.groups // node.channels[0]
        case Linear():
            changes["channels"] = count(node.inputs[0], node.channels[0]), node.channels[1]
        case BatchNorm():
            changes["channels"] = count(node.name, node.channels)
        case Constant(shape=(first, channels, *rest)):
            changes["shape"] = first, count(node.name, channels), *rest
        case Split():
            pieces = zip(node.outputs, node.sizes, strict=True)
            changes["sizes"] = tuple(count(value, size, node.axis) for value, size in pieces)
        case Reshape() if node.name in found.channels:
            axis = found.channels[node.name].axis
            if node.shape[axis] not in (0, -1):
                shape = list(node.shape)
                shape[axis] = count(node.name, 0, axis)
                changes["shape"] = tuple(shape)
    return node.model_copy(update=changes)
