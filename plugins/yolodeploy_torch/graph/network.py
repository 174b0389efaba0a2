"""The module that computes a graph: a `torch.fx.GraphModule` whose modules bear the checkpoint's names."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from yolodeploy.system import ImageShape
from yolodeploy_torch.graph.nodes import Shape, Unsupported
from yolodeploy_torch.graph.operations import (
    Activation,
    AnyNode,
    Arithmetic,
    Concat,
    Function,
    GlobalPool,
    Grid,
    MatMul,
    Pool,
    Reshape,
    Resize,
    Softmax,
    Split,
    Transpose,
)
from yolodeploy_torch.graph.table import IMAGE, Graph
from yolodeploy_torch.graph.weighted import BatchNorm, Constant, Conv, ConvTranspose, Linear

_MOMENTUM = 0.03  # of batch statistics in training, as the checkpoints have it
_TABLE = "table"
_ARITHMETIC = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}
_FUNCTIONS = {"sigmoid": torch.sigmoid, "sin": torch.sin, "cos": torch.cos, "exp": torch.exp}
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
        results = _emit(program, root, node, read, shapes)
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
        _parent(root, path).register_parameter(last, nn.Parameter(state[node.name]))
        return
    module = _module(node)
    if module is None:
        return
    for key in node.weights():
        tensor = state[f"{node.name}.{key}"]
        if key in ("weight", "bias"):
            setattr(module, key, nn.Parameter(tensor))
        else:
            setattr(module, key, tensor)
    _parent(root, path).register_module(last, module)


def _parent(root: nn.Module, path: str) -> nn.Module:
    for name in path.split(".") if path else ():
        if name not in root._modules:  # noqa: SLF001 - `get_submodule` raises where one is missing
            root.register_module(name, nn.Module())
        root = cast("nn.Module", root._modules[name])  # noqa: SLF001
    return root


def _module(node: AnyNode) -> nn.Module | None:
    """The module of a node that has weights or a name of its own, on no device; None for other nodes."""
    match node:
        case Conv():
            module: nn.Module = nn.Conv2d(
                *node.channels,
                node.kernel,
                node.stride,
                node.padding,
                node.dilation,
                node.groups,
                node.bias,
                device="meta",
            )
        case ConvTranspose():
            module = nn.ConvTranspose2d(
                *node.channels,
                node.kernel,
                node.stride,
                node.padding,
                bias=node.bias,
                device="meta",
            )
        case Linear():
            module = nn.Linear(*node.channels, bias=node.bias, device="meta")
        case BatchNorm():
            module = _BatchNorm(node.channels, node.eps, _MOMENTUM, device="meta")
            module.num_batches_tracked = None
        case Activation():
            module = _activation(node)
        case _:
            return None
    return module


class _BatchNorm(nn.BatchNorm2d):
    """One that does not count batches; PyTorch would add a count to weights that come without their versions."""

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any
    ) -> None:
        versioned = {**local_metadata, "version": self._version}
        super()._load_from_state_dict(state_dict, prefix, versioned, *rest)


def _activation(node: Activation) -> nn.Module:
    match node.kind:
        case "silu":
            return nn.SiLU()
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(node.slope)
        case "hardswish":
            return nn.Hardswish()


def _emit(
    program: fx.Graph,
    root: nn.Module,
    node: AnyNode,
    read: list[fx.Node],
    shapes: Mapping[str, Shape] | None,
) -> tuple[fx.Node, ...]:
    """Add a node to the program; returns what it makes."""
    match node:
        case Split():
            pieces = program.call_function(torch.split, (read[0], list(node.sizes), node.axis))
            return _items(program, pieces, len(node.sizes))
        case Grid():
            return _emit_grid(program, root, node, read, shapes)
    return (_emit_one(program, node, read, shapes),)


def _emit_one(
    program: fx.Graph, node: AnyNode, read: list[fx.Node], shapes: Mapping[str, Shape] | None
) -> fx.Node:
    match node:
        case Conv() | ConvTranspose() | Linear() | BatchNorm() | Activation():
            return program.call_module(node.name, (read[0],))
        case Constant():
            return program.get_attr(node.name)
        case Concat():
            return program.call_function(torch.cat, (read, node.axis))
        case Reshape() if shapes is not None:
            size = node.resolved(tuple(shapes[value] for value in node.inputs))
            return program.call_function(torch.reshape, (read[0], size))
        case Reshape():
            return program.call_function(_reshape, (read[0], list(node.shape), *read[1:]))
    return _emit_simple(program, node, read)


def _emit_simple(program: fx.Graph, node: AnyNode, read: list[fx.Node]) -> fx.Node:
    function, arguments = _call(node)
    return program.call_function(function, (*read, *arguments))


def _call(node: AnyNode) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function of a node without weights, and what it is called with behind the node's values."""
    found: tuple[Callable[..., Any], tuple[Any, ...]]
    match node:
        case Arithmetic():
            found = _ARITHMETIC[node.kind], () if node.number is None else (node.number,)
        case Function():
            found = _FUNCTIONS[node.kind], ()
        case Softmax():
            found = torch.softmax, (node.axis,)
        case MatMul():
            found = torch.matmul, ()
        case Transpose():
            found = torch.permute, (node.order,)
        case Pool():
            kind = functional.max_pool2d if node.kind == "max" else functional.avg_pool2d
            found = kind, (node.kernel, node.stride, node.padding)
        case GlobalPool():
            found = functional.adaptive_avg_pool2d, (1,)
        case Resize(scale=None):
            found = _resize_like, ()
        case Resize():
            found = functional.interpolate, (None, float(node.scale or 1), "nearest")
        case _:
            raise TypeError(node.op)
    return found


def _items(program: fx.Graph, it: fx.Node, count: int) -> tuple[fx.Node, ...]:
    return tuple(program.call_function(operator.getitem, (it, number)) for number in range(count))


def _emit_grid(
    program: fx.Graph,
    root: nn.Module,
    node: Grid,
    read: list[fx.Node],
    shapes: Mapping[str, Shape] | None,
) -> tuple[fx.Node, ...]:
    if shapes is None:
        made = program.call_function(grid_like, (read, list(node.strides)))
        return _items(program, made, 2)
    sizes = [shapes[value][2:] for value in node.inputs]
    parent = _parent(root, node.name)
    for key, value in zip(("points", "steps"), grid(sizes, node.strides), strict=True):
        parent.register_buffer(key, value, persistent=False)
    return tuple(program.get_attr(value) for value in node.outputs)


def grid(sizes: Sequence[Sequence[int]], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The centres [1, 2, A] of the cells of maps of these sizes, in cells, and their sizes [1, 1, A] in px."""
    points, steps = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows = torch.arange(height, dtype=torch.float32) + 0.5
        columns = torch.arange(width, dtype=torch.float32) + 0.5
        points.append(torch.stack((columns.repeat(height), rows.repeat_interleave(width))))
        steps.append(torch.full((1, height * width), float(stride)))
    return torch.cat(points, 1)[None], torch.cat(steps, 1)[None]


def grid_like(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The grid of maps, on their device."""
    points, steps = grid([level.shape[2:] for level in maps], strides)
    return points.to(maps[0].device), steps.to(maps[0].device)


def _reshape(value: Tensor, shape: Sequence[int | str], like: Tensor | None = None) -> Tensor:
    named = {} if like is None else {"height": like.shape[-2], "width": like.shape[-1]}
    sizes = [
        named[size] if isinstance(size, str) else value.shape[axis] if size == 0 else size
        for axis, size in enumerate(shape)
    ]
    return value.reshape(sizes)


def _resize_like(value: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(value, size=like.shape[2:], mode="nearest")
