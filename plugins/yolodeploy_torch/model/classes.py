"""Keep some of the classes of a model: the channels of its class scores are cut, exactly."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from yolodeploy_torch.graph import AnyNode, Conv, Graph, State


def keep_classes(
    graph: Graph, state: State, chosen: Sequence[int]
) -> tuple[Graph, dict[str, Tensor]]:
    """The same model with only these classes, in this order; their scores stay as they are, to the bit."""
    kept, count, rows = dict(state), len(chosen), list(chosen)
    last = {value for branch in graph.head.branches.values() for value in branch.scores}
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if node.name in last and isinstance(node, Conv):
            nodes.append(node.model_copy(update={"channels": (node.channels[0], count)}))
            for key in node.weights():
                name = f"{node.name}.{key}"
                kept[name] = state[name][rows].contiguous()
        else:
            nodes.append(node)
    names = tuple(graph.head.names[number] for number in chosen)
    smaller = graph.replaced(nodes, {})
    head = smaller.head.model_copy(update={"names": names})
    return smaller.model_copy(update={"head": head}), kept
