"""Keep some of the classes of a model: the channels of its class scores are cut, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from yolodeploy_torch.graph import (
    AnyNode,
    Classification,
    Concat,
    Conv,
    Graph,
    Linear,
    OpenHead,
    Split,
    State,
    Unsupported,
)

_MOST = 64  # pieces that a value is split into, or joined from
_BOX = 4


def keep_classes(
    graph: Graph, state: State, chosen: Sequence[int]
) -> tuple[Graph, dict[str, Tensor]]:
    """The same model with only these classes, in this order; their scores stay as they are, to the bit.

    Probabilities of a classifier are spread over those that stay. Of an open head the output loses the rows of the others.
    Raises `Unsupported` if it would fall into too many pieces, or is that of a classifier.
    """
    if isinstance(graph.head, OpenHead):
        return _rows_kept(graph, graph.head, chosen), dict(state)
    kept, count, rows = dict(state), len(chosen), list(chosen)
    last = _scoring(graph)
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if node.name in last and isinstance(node, Conv | Linear):
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


def _scoring(graph: Graph) -> set[str]:
    """The values that have a channel per class."""
    if isinstance(graph.head, Classification):
        return {graph.head.logits}
    return {value for branch in graph.detection.branches.values() for value in branch.scores}


def _rows_kept(graph: Graph, head: OpenHead, chosen: Sequence[int]) -> Graph:
    """The graph with nodes behind its output that split it and join what stays."""
    if head.task == "classify":
        raise Unsupported(
            "the layer that scores classes is not known, and their probabilities add up to 1"
        )
    end = _BOX + len(head.names)
    total = end if head.task == "detect" else graph.shapes(*graph.reference)[head.output][1]
    behind = range(end, total)
    runs = _runs([*range(_BOX), *(_BOX + number for number in chosen), *behind])
    edges = {0, total}.union(*runs)
    starts = sorted(edges)
    sizes = tuple(end - start for start, end in pairwise(starts))
    pieces = [starts.index(start) for start, _ in runs]
    if max(len(sizes), len(pieces)) > _MOST:
        raise Unsupported(
            f"its output would fall into {max(len(sizes), len(pieces))} pieces if {len(chosen)} of its classes were "
            f"kept, and {_MOST} are the most: keep fewer, or all"
        )
    name = _unused(graph, f"{head.output}.kept")
    split = Split(name=f"{name}.pieces", inputs=(head.output,), sizes=sizes, part="decode")
    values = tuple(split.outputs[piece] for piece in pieces)
    joined = Concat(name=name, inputs=values, part="decode")
    names = tuple(head.names[number] for number in chosen)
    smaller = head.model_copy(update={"names": names, "output": name})
    nodes: tuple[AnyNode, ...] = (*graph.nodes, split, joined)
    return graph.model_copy(update={"nodes": nodes, "head": smaller})


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of the rows that follow each other, in the given order."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row:
            runs[-1] = runs[-1][0], row + 1
        else:
            runs.append((row, row + 1))
    return runs


def _unused(graph: Graph, name: str) -> str:
    """The name, longer by as much as is needed for nothing to begin with it."""
    while any(node.name.startswith(name) for node in graph.nodes):
        name += "_"
    return name
