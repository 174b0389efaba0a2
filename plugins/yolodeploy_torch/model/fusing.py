"""Fold batch normalisations into the convolutions before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolodeploy_torch.graph import AnyNode, BatchNorm, Conv, Graph

if TYPE_CHECKING:
    from torch import Tensor

    from yolodeploy_torch.graph import State


def norms(graph: Graph) -> dict[str, BatchNorm]:
    """The normalisation of every convolution that has one, by the name of the convolution.

    It reads the convolution, and nothing else does.
    """
    makers, readers = graph.makers(), graph.readers()
    found = {}
    for node in graph.nodes:
        if isinstance(node, BatchNorm):
            conv = makers.get(node.inputs[0])
            if isinstance(conv, Conv) and len(readers[conv.name]) == 1:
                found[conv.name] = node
    return found


def fused(graph: Graph, state: State) -> tuple[Graph, dict[str, Tensor]]:
    """The same model with every normalisation folded into its convolution.

    Elementwise float64 arithmetic, rounded once to float32, gives the same bits on every CPU.
    """
    found, left = norms(graph), dict(state)
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if node.name in found and isinstance(node, Conv):
            norm = found[node.name]
            weight, bias = folded(left, node, norm)
            left |= {f"{node.name}.weight": weight.float(), f"{node.name}.bias": bias.float()}
            nodes.append(node.model_copy(update={"bias": True}))
            for key in norm.weights():
                del left[f"{norm.name}.{key}"]
        elif not (isinstance(node, BatchNorm) and node.inputs[0] in found):
            nodes.append(node)
    return graph.replaced(nodes, {norm.name: conv for conv, norm in found.items()}), left


def folded(state: State, conv: Conv, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Kernel and bias, float64, of a convolution with a normalisation folded into it."""
    gain, shift, mean, variance = (
        state[f"{norm.name}.{key}"].double()
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / (variance + norm.eps).sqrt()
    bias = shift - mean * scale
    if conv.bias:
        bias = bias + state[f"{conv.name}.bias"].double() * scale
    return state[f"{conv.name}.weight"].double() * scale[:, None, None, None], bias
