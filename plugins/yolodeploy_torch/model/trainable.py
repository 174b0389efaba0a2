"""What training needs of a model: the maps that its head reads, and the logits of every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, fx, nn
from torch.fx import GraphModule

from yolodeploy.recipe import Head
from yolodeploy_torch.graph import AnyNode, Graph, assemble, graph_in


class Logits(NamedTuple):
    """The results of a head's last convolutions per level: boxes [N, 4 * bins, h, w], scores [N, nc, h, w]."""

    boxes: list[Tensor]
    scores: list[Tensor]


class Outputs(NamedTuple):
    """What `Trainable` gives: the maps [N, C, h, w] that the head reads per level, and logits by head."""

    features: list[Tensor]
    heads: Mapping[Head, Logits]


class Trainable(nn.Module):
    """Maps images [N, channels, H, W] to `Outputs`; shares all weights and modules with the given network.

    Where a model has two heads, the one-to-one head does not train what is before it
    (https://arxiv.org/abs/2405.14458): it reads the maps without their gradients.
    """

    def __init__(self, network: GraphModule) -> None:
        super().__init__()
        self.graph = graph_in(network)
        values = training_values(self.graph)
        both = len(self.graph.head.branches) > 1
        nodes = self.graph.needed(*values)
        made = assemble(
            self.graph,
            network,
            values,
            nodes,
            several=True,
            between=_detached(self.graph) if both else None,
        )
        self.network = made.train(network.training)

    def forward(self, images: Tensor) -> Outputs:
        """Run the model without its decoding."""
        return outputs(self.graph, self.network(images))


def training_values(graph: Graph) -> tuple[str, ...]:
    """The values that `outputs` sorts: features, then boxes and scores of every head."""
    logits = [
        value
        for branch in graph.head.branches.values()
        for value in (*branch.boxes, *branch.scores)
    ]
    return (*graph.head.features, *logits)


def outputs(graph: Graph, values: Sequence[Tensor]) -> Outputs:
    """Sort what a module gives for `training_values`."""
    rest, levels = iter(values), range(len(graph.head.strides))
    features = [next(rest) for _ in levels]
    heads = {
        head: Logits([next(rest) for _ in levels], [next(rest) for _ in levels])
        for head in graph.head.branches
    }
    return Outputs(features, heads)


class _detached:  # noqa: N801 - a function with a memory
    """Takes the gradients out of what enters the one-to-one head, once per value."""

    def __init__(self, graph: Graph) -> None:
        self._inside = {
            value for node in graph.nodes if node.branch == "one-to-one" for value in node.outputs
        }
        self._made: dict[str, fx.Node] = {}

    def __call__(self, program: fx.Graph, node: AnyNode, value: str, it: fx.Node) -> fx.Node:
        if node.branch != "one-to-one" or value in self._inside:
            return it
        if value not in self._made:
            self._made[value] = program.call_method("detach", (it,))
        return self._made[value]
