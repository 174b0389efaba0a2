"""Channels cut at random, and the model in which they are silent instead: both must give the same."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from yolodeploy_torch.graph import Conv, ConvTranspose, Graph, build, graph_in
from yolodeploy_torch.model import Group, Structure, channel_groups, norms
from yolodeploy_torch.pruning.shrink import Cut

Kept = dict[Group, torch.Tensor]


def random_cut(graph: Graph) -> tuple[Structure, Kept]:
    """Different numbers of channels everywhere, also in the two halves of a block."""
    random, found = torch.Generator().manual_seed(1), channel_groups(graph)
    kept = {}
    for number, group in enumerate(found.groups):
        size = max(1, group.size * (5 + number % 4) // 9)
        kept[group] = torch.sort(torch.randperm(group.size, generator=random)[:size]).values
    return found, kept


def silenced(model: GraphModule, found: Structure, kept: Kept) -> GraphModule:
    """The model in which all convolutions give 0 in the channels that are cut: silu(0) is 0."""
    graph, cut = graph_in(model), Cut(found, kept)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    normalised = norms(graph)
    for node in graph.nodes:
        stay = cut.stay(node.name)
        if isinstance(node, Conv | ConvTranspose) and stay is not None:
            silent = torch.ones(node.channels[1], dtype=torch.bool)
            silent[stay] = False
            last = normalised.get(node.name, node)
            for key in {"weight", "bias"} & last.weights().keys():
                tensor = state[f"{last.name}.{key}"]
                outputs_second = isinstance(last, ConvTranspose) and key == "weight"
                (tensor.transpose(0, 1) if outputs_second else tensor)[silent] = 0
    return build(graph, state)
