"""Merge parallel convolutions that are added up into one (re-parameterisation, https://arxiv.org/abs/2101.03697)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolodeploy_torch.graph import AnyNode, Arithmetic, BatchNorm, Conv, Graph
from yolodeploy_torch.model.fusing import folded, norms

if TYPE_CHECKING:
    from torch import Tensor

    from yolodeploy_torch.graph import State

Unit = tuple[Conv, BatchNorm]


def merged(graph: Graph, state: State) -> tuple[Graph, dict[str, Tensor]]:
    """The same model with one convolution for every sum of two that read the same map.

    The sum of the kernels stands under the name of the larger, behind it a normalisation that only adds the bias.
    """
    smaller, sums = _merged(graph)
    left = dict(state)
    for first, second in sums.values():
        weights = _weights(first, second, left)
        for each in (*first, *second):
            for key in each.weights():
                del left[f"{each.name}.{key}"]
        left |= weights
    return smaller, left


def merged_graph(graph: Graph) -> Graph:
    """The graph of `merged`."""
    return _merged(graph)[0]


def _merged(graph: Graph) -> tuple[Graph, dict[str, tuple[Unit, Unit]]]:
    """The smaller graph, and the pairs of units that became one, by the name of their sum."""
    units, sums = _units(graph), dict[str, tuple[Unit, Unit]]()
    for node in graph.nodes:
        pair = _parallel(node, units)
        if pair:
            sums[node.name] = pair
    if not sums:
        return graph, sums
    gone = {each.name for pair in sums.values() for unit in pair for each in unit}
    nodes, renamed = list[AnyNode](), dict[str, str]()
    for node in graph.nodes:
        if node.name in sums:
            conv, norm = sums[node.name][0]
            nodes += [conv.model_copy(update={"bias": False}), norm]
            renamed[node.name] = norm.name
        elif node.name not in gone:
            nodes.append(node)
    return graph.replaced(nodes, renamed), sums


def _units(graph: Graph) -> dict[str, Unit]:
    """Every normalised convolution without an activation that one node reads, by the value that it gives."""
    makers, readers = graph.makers(), graph.readers()
    found = {}
    for conv, norm in norms(graph).items():
        made = makers[conv]
        if isinstance(made, Conv) and len(readers[norm.name]) == 1:
            found[norm.name] = (made, norm)
    return found


def _parallel(node: AnyNode, units: dict[str, Unit]) -> tuple[Unit, Unit] | None:
    """The two units that a sum adds if they can be one, the one with the larger kernel first."""
    if not isinstance(node, Arithmetic) or node.kind != "add" or len(set(node.inputs)) != 2:
        return None
    if not all(value in units for value in node.inputs):
        return None
    pair = sorted(
        (units[value] for value in node.inputs), key=lambda unit: unit[0].kernel, reverse=True
    )
    (large, _), (small, _) = pair
    same = ("inputs", "channels", "stride", "dilation", "groups")
    margins = [n - m for n, m in zip(large.kernel, small.kernel, strict=True)]
    moved = [2 * (p - q) for p, q in zip(large.padding, small.padding, strict=True)]
    fits = all(getattr(large, key) == getattr(small, key) for key in same)
    if fits and margins == moved and min(margins) >= 0 and set(large.dilation) == {1}:
        return pair[0], pair[1]
    return None


def _weights(first: Unit, second: Unit, state: State) -> dict[str, Tensor]:
    """The tensors of the unit that gives the sum of two."""
    import torch
    from torch.nn import functional

    (large, norm), (small, other) = first, second
    (kernel, bias), (inner, shift) = folded(state, large, norm), folded(state, small, other)
    rows, columns = ((n - m) // 2 for n, m in zip(large.kernel, small.kernel, strict=True))
    kernel = kernel + functional.pad(inner, (columns, columns, rows, rows))
    ones = torch.ones(large.channels[1])
    return {
        f"{large.name}.weight": kernel.float(),
        f"{norm.name}.weight": ones,
        f"{norm.name}.bias": (bias + shift).float(),
        f"{norm.name}.running_mean": torch.zeros_like(ones),
        f"{norm.name}.running_var": ones - norm.eps,
    }
