"""Lowers the nodes of an ONNX model to primitives: https://onnx.ai/onnx/operators.

A lowering is a function `(to, node)` that adds the primitives of one operation. Each file in `operations` lists its
lowerings by operation, and is found by being there.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import NodeProto
from torch import Tensor

from yolodeploy_onnx.examination import called
from yolodeploy_onnx.graph.merging import merged, with_joint_splits
from yolodeploy_onnx.interface import Model, attribute
from yolodeploy_torch.graph import (
    IMAGE,
    AnyNode,
    Constant,
    GraphBuilder,
    Reshape,
    Shape,
    Unsupported,
)

Lowering = Callable[["Lowered", NodeProto], None]
_ODD = re.compile(r"\W+", re.ASCII)
_WEIGHT = re.compile(r"\.(weight|bias)$")
_MOST_LETTERS = 150


class NoPrimitive(Unsupported):
    """A node is none of the primitives; the message is the node as a message names it."""


class Lowered(GraphBuilder):
    """Collects the primitives of a model; `values` are their values by the names that ONNX has for them."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.channels, (model.imgsz.height, model.imgsz.width))
        self.model = model
        self.values = {model.image: IMAGE}
        self.makers = model.makers()
        self.reading = model.readers_of_all()
        self._names: set[str] = set()

    def run(self) -> None:
        """Lower all nodes; raises `NoPrimitive` at one that is not known, `Unsupported` at one that does not fit."""
        for node in self.model.nodes:
            lowering = lowerings().get(node.op_type)
            if lowering is None:
                raise NoPrimitive(called(node))
            try:
                lowering(self, node)
            except NoPrimitive as error:
                raise NoPrimitive(f"{called(node)}, of which {error}") from error
            except Unsupported as error:
                raise NoPrimitive(f"{called(node)}: {error}") from error

    def value(self, name: str) -> str:
        """The value of the graph that stands for a value of the model; a constant becomes one."""
        if name not in self.values and name in self.model.constants:
            return self.constant(name, self.model.constants[name])
        if name not in self.values:
            raise Unsupported(f"it reads `{name}`, which is not a number")
        return self.values[name]

    def constant(self, name: str, numbers: NDArray[Any], axes: int = 0) -> str:
        """Add a constant with at least so many axes, for one use."""
        if not np.issubdtype(numbers.dtype, np.floating):
            numbers = numbers.astype(np.float32)
        shape = (1,) * (max(axes, 1) - numbers.ndim) + numbers.shape
        node = Constant(name=self.free(plain_name(name)), inputs=(IMAGE,), shape=shape)
        return self.add(node, {"": tensor(numbers.reshape(shape))})

    def give(self, node: NodeProto, *made: str) -> None:
        """Say which values of the graph a node's outputs are."""
        self.values.update(zip(node.output, made, strict=False))

    def name_of(self, node: NodeProto) -> str:
        """A name for what a node becomes: that of its weights, else its own or that of its output."""
        weights = [name for name in node.input[1:2] if name in self.model.constants]
        if weights and _WEIGHT.search(weights[0]):
            return self.free(plain_name(_WEIGHT.sub("", weights[0])))
        return self.free(plain_name(node.name or node.output[0]))

    def free(self, name: str) -> str:
        """This name, or with a number if it is taken."""
        found, number = name, 2
        while found in self._names:
            found, number = f"{name}_{number}", number + 1
        self._names.add(found)
        return found

    def numbers(self, node: NodeProto, place: int) -> NDArray[Any] | None:
        """The constant that a node reads at a place; None if it reads none there."""
        if place >= len(node.input) or not node.input[place]:
            return None
        return self.model.constants.get(node.input[place])

    def integers(self, node: NodeProto, place: int, name: str) -> tuple[int, ...] | None:
        """Whole numbers that are an input in newer versions and an attribute in older ones."""
        found = self.numbers(node, place)
        if found is not None:
            return tuple(int(number) for number in found.ravel())
        if place < len(node.input) and node.input[place]:
            raise Unsupported(f"its `{name}` is computed from the image")
        old = attribute(node, name)
        return None if old is None else tuple(int(number) for number in np.ravel(old))

    def axis(self, node: NodeProto, default: int, axes: int) -> int:
        """The attribute `axis`, counted from the front."""
        found = int(attribute(node, "axis", default))
        return found % axes if -axes <= found < axes else found

    def reshaped(self, name: str, value: str, shape: Shape) -> str:
        """Arrange a value anew; the first axis, which holds the images, stays free."""
        before = self.shape(value)
        if before == shape:
            return value
        sizes = (0 if before[0] == shape[0] else -1, *shape[1:])
        return self.add(Reshape(name=self.free(name), inputs=(value,), shape=sizes))


def tensor(numbers: NDArray[Any]) -> Tensor:
    """A float32 tensor of its own."""
    return torch.from_numpy(np.array(numbers, np.float32, order="C"))


def plain_name(name: str) -> str:
    """A name of letters, digits, dots and underscores."""
    return ".".join(filter(None, _ODD.sub(".", name).split(".")))[-_MOST_LETTERS:] or "node"


@functools.cache
def lowerings() -> Mapping[str, Lowering]:
    """Every lowering by the name of its operation, from the files in `operations`."""
    package = importlib.import_module("yolodeploy_onnx.graph.operations")
    found: dict[str, Lowering] = {}
    for file in pkgutil.iter_modules(package.__path__):
        found |= importlib.import_module(f"{package.__name__}.{file.name}").LOWERINGS
    return found


def lowered(model: Model) -> tuple[tuple[AnyNode, ...], dict[str, Tensor], tuple[str, ...]]:
    """The primitives of a model, their tensors, and the values that it gives.

    Raises `NoPrimitive` for an operation that is none.
    """
    to = Lowered(model)
    to.run()
    found = tuple(map(to.value, model.outputs))
    nodes = _needed(with_joint_splits(_needed(to.nodes, found), found), found)
    nodes = merged(nodes, to.state, found)
    names = {f"{node.name}.{key}" if key else node.name for node in nodes for key in node.weights()}
    return nodes, {name: to.state[name] for name in names}, found


def _needed(nodes: Sequence[AnyNode], outputs: Sequence[str]) -> tuple[AnyNode, ...]:
    """The nodes that values depend on, in order of execution."""
    wanted, kept = set(outputs), list[AnyNode]()
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
