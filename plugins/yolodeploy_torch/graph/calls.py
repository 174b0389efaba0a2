"""What a node of the graph is in a `torch.fx` program: calls of modules and functions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from yolodeploy_torch.graph.modules import parent_of
from yolodeploy_torch.graph.nodes import Shape
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
from yolodeploy_torch.graph.weighted import BatchNorm, Constant, Conv, ConvTranspose, Linear

_ARITHMETIC = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}
_FUNCTIONS = {"sigmoid": torch.sigmoid, "sin": torch.sin, "cos": torch.cos, "exp": torch.exp}


def emit(
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
    parent = parent_of(root, node.name)
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
