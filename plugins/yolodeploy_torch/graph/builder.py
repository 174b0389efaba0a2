"""Builds a graph: what the readers of checkpoints and of other files call to add primitives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from yolodeploy.compress import Part
from yolodeploy.recipe import Head
from yolodeploy_torch.graph.nodes import Shape, Unsupported, bounded
from yolodeploy_torch.graph.operations import AnyNode, Arithmetic, Concat, Split
from yolodeploy_torch.graph.table import IMAGE
from yolodeploy_torch.graph.weighted import BatchNorm

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-3  # of the normalisation behind a convolution into which another was folded


T = TypeVar("T")


class NodeBuilder(Generic[T]):
    """Collects nodes and tensors of a kind; `size` is an image for which every node is checked when it is added."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        self.nodes: list[AnyNode] = []
        self.state: dict[str, T] = {}
        self._shapes: dict[str, Shape] = {IMAGE: (1, channels, *size)}
        self._part: Part | None = None
        self._branch: Head | None = None

    @contextlib.contextmanager
    def mark(self, part: Part | None, branch: Head | None = None) -> Iterator[None]:
        """Everything that is added meanwhile belongs to this part and branch."""
        before = self._part, self._branch
        self._part, self._branch = part, branch
        yield
        self._part, self._branch = before

    def add(self, node: AnyNode, weights: Mapping[str, T] | None = None) -> str:
        """Add a node with its tensors; returns its first value."""
        node = node.model_copy(update={"part": node.part or self._part, "branch": self._branch})
        try:
            made = node.shapes(*(self._shapes[value] for value in node.inputs))
        except Unsupported as error:
            raise Unsupported(f"its layer {node.name} does not fit: {error}") from error
        bounded(node.name, made)
        self._shapes.update(zip(node.outputs, made, strict=True))
        self.nodes.append(node)
        for key, tensor in (weights or {}).items():
            self.state[f"{node.name}.{key}" if key else node.name] = tensor
        return node.outputs[0]

    def tensor(self, numbers: NDArray[np.float32]) -> T:
        """A tensor of the kind that it collects."""
        raise NotImplementedError

    def channels(self, value: str) -> int:
        """The number of channels of a value."""
        return self._shapes[value][1]

    def concat(self, name: str, values: list[str] | tuple[str, ...], axis: int = 1) -> str:
        """Join values; a single one stays as it is."""
        if len(values) == 1:
            return values[0]
        return self.add(Concat(name=name, inputs=tuple(values), axis=axis))

    def halves(self, name: str, value: str) -> tuple[str, str]:
        """The two halves of the channels of a value."""
        half = self.channels(value) // 2
        self.add(Split(name=name, inputs=(value,), sizes=(half, half)))
        return f"{name}.0", f"{name}.1"

    def plus(self, name: str, first: str, second: str) -> str:
        """The sum of two values."""
        return self.add(Arithmetic(name=name, inputs=(first, second), kind="add"))

    def unnormalised(self, name: str, value: str, bias: T | None) -> str:
        """Add a normalisation that only adds a bias."""
        count = self.channels(value)
        ones, zeros = np.ones(count, np.float32), np.zeros(count, np.float32)
        tensors = {
            "weight": self.tensor(ones),
            "bias": self.tensor(zeros) if bias is None else bias,
            "running_mean": self.tensor(zeros),
            "running_var": self.tensor(ones - np.float32(_EPS)),
        }
        return self.add(BatchNorm(name=name, inputs=(value,), channels=count, eps=_EPS), tensors)

    def shape(self, value: str) -> Shape:
        """The shape of a value for an image of the size."""
        return self._shapes[value]


class GraphBuilder(NodeBuilder["Tensor"]):
    """Collects the tensors of PyTorch."""

    def tensor(self, numbers: NDArray[np.float32]) -> Tensor:
        """The same numbers, in memory of its own."""
        import torch

        return torch.tensor(numbers)
