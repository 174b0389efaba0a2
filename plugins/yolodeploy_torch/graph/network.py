"""The module that computes a graph: a `torch.fx.GraphModule` whose modules bear the checkpoint's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph.calls import emit
from yolodeploy_torch.graph.modules import module_of, parent_of
from yolodeploy_torch.graph.nodes import Shape, Unsupported
from yolodeploy_torch.graph.operations import AnyNode
from yolodeploy_torch.graph.table import IMAGE, Graph
from yolodeploy_torch.graph.weighted import Constant

_TABLE = "table"
State = Mapping[str, Tensor]


def build(graph: Graph, state: State) -> fx.GraphModule:
    """Build the module of a graph around its weights, in evaluation mode and without gradients.

    It maps images [N, channels, H, W] in 0..1 to `graph.output`, to a tuple of all `graph.outputs` where there are
    several, and has all modules of the graph, those of unused branches too. Raises `Unsupported` if graph and weights do not fit.
    """
    graph.check()
    check_weights(graph, state)
    root = nn.Module()
    for node in graph.nodes:
        _attach(root, node, state)
    # Every node is in this module, so that none of the modules is lost; `select` leaves out what is not needed.
    values = tuple(graph.outputs.values())
    made = assemble(graph, root, values, graph.nodes, several=len(values) > 1)
    return made.eval().requires_grad_(False)


def graph_in(module: fx.GraphModule) -> Graph:
    """The graph that a module was built from."""
    return cast("Graph", module.meta[_TABLE])


def select(module: fx.GraphModule, values: Sequence[str]) -> fx.GraphModule:
    """A module that gives a tuple of values of the same graph, and shares all weights with the given one."""
    graph = graph_in(module)
    return assemble(graph, module, values, graph.needed(*values), several=True)


def fixed(
    module: fx.GraphModule, values: Sequence[str], imgsz: ImageShape, batch: int = 1
) -> fx.GraphModule:
    """The same for images of one size: no shape is computed, and grids are constants."""
    graph = graph_in(module)
    shapes = graph.shapes(imgsz.height, imgsz.width, batch)
    return assemble(graph, module, values, graph.needed(*values), several=True, shapes=shapes)


def assemble(
    graph: Graph,
    root: nn.Module,
    values: Sequence[str],
    nodes: Sequence[AnyNode],
    *,
    several: bool = False,
    shapes: Mapping[str, Shape] | None = None,
    between: Callable[[fx.Graph, AnyNode, str, fx.Node], fx.Node] | None = None,
) -> fx.GraphModule:
    """Compute `values` by these nodes of a graph, with the modules of `root`.

    `between(program, node, value, it)` may put something between a node and a value that it reads.
    """
    program = fx.Graph()
    made = {IMAGE: program.placeholder(IMAGE)}
    for node in nodes:
        read = [made[value] for value in node.inputs]
        if between:
            read = [
                between(program, node, value, it)
                for value, it in zip(node.inputs, read, strict=True)
            ]
        results = emit(program, root, node, read, shapes)
        made.update(zip(node.outputs, results, strict=True))
    program.output(tuple(made[value] for value in values) if several else made[values[0]])
    module = fx.GraphModule(root, program, "Network")
    module.meta[_TABLE] = graph
    return module


def check_weights(graph: Graph, state: State) -> None:
    """Raise `Unsupported` unless these are the tensors that a graph needs."""
    graph.check_tensors({name: tuple(value.shape) for name, value in state.items()})
    for name, found in state.items():
        if found.dtype != torch.float32:
            raise Unsupported(
                f"its weight {name} is {found.dtype}, where {torch.float32} is needed"
            )


def _attach(root: nn.Module, node: AnyNode, state: State) -> None:
    """Put the module of a node, or its tensor, where its name says."""
    path, _, last = node.name.rpartition(".")
    if isinstance(node, Constant):
        parent_of(root, path).register_parameter(last, nn.Parameter(state[node.name]))
        return
    module = module_of(node)
    if module is None:
        return
    for key in node.weights():
        tensor = state[f"{node.name}.{key}"]
        if key in ("weight", "bias"):
            setattr(module, key, nn.Parameter(tensor))
        else:
            setattr(module, key, tensor)
    parent_of(root, path).register_module(last, module)
