"""Which channels of a model must be cut together, read off its graph.

Every channel that a convolution makes has a number. The numbers travel along the nodes: a join puts them one after
another, a split parts them, a depthwise convolution hands on those that it reads. A sum, or a product, needs the same
channels on both sides, and makes their numbers equal. What then bears the same number is cut together: the dependency
graph of DepGraph (Fang et al., https://arxiv.org/abs/2301.12900), for single channels.
Numbers are followed through attention too, where channels of a map become those of several heads, and every head loses
the same ones. The channels of the image and of the outputs stay, and so do those of which nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolodeploy_torch.graph import (
    Activation,
    AnyNode,
    Arithmetic,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Function,
    GlobalPool,
    Graph,
    Grid,
    Linear,
    MatMul,
    Pool,
    Reshape,
    Resize,
    Shape,
    Softmax,
    Split,
    Transpose,
)

Numbers = NDArray[np.int64]
_ROWS = 2  # axes of a value with one row per image
_FIXED = 0  # the number of all channels that stay


class Channels(NamedTuple):
    """The numbers [n] of the channels of a value, and the axis in which they lie; 0 is a channel that stays."""

    axis: int
    numbers: Numbers


@dataclass(frozen=True, eq=False)
class Group:
    """A run of channels that are cut together: the numbers from `first` on.

    It bears the name of the first convolution that makes it, and a count where that makes several. A value has all
    channels of a group or none.
    """

    name: str
    first: int
    size: int


@dataclass(frozen=True, eq=False)
class Structure:
    """The groups of channels that may be cut, and the channels of every value that has such.

    Everything is in order of execution.
    """

    groups: tuple[Group, ...]
    channels: Mapping[str, Channels]

    @property
    def sizes(self) -> dict[Group, int]:
        """The sizes of the groups as they are."""
        return {group: group.size for group in self.groups}

    def numbers(self, value: str, axis: int) -> Numbers | None:
        """The numbers of the channels in an axis of a value; None if all of them stay."""
        found = self.channels.get(value)
        return found.numbers if found and found.axis == axis else None


def channel_groups(graph: Graph) -> Structure:
    """Find the groups of a graph; raises `Unsupported` if it does not fit together."""
    step = max(graph.head.strides)
    walk = _Walk(graph.shapes(*(graph.size or (2 * step, 3 * step))))
    for node in graph.nodes:
        walk.follow(node)
    for value in graph.head.ends:
        walk.fix(value)
    return _grouped(walk.found())


class _Walk:
    """Follows the nodes, and notes the channels of every value."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes, self._parents = shapes, [_FIXED]
        self._channels: dict[str, Channels] = {}

    def found(self) -> dict[str, Channels]:
        """The channels of every value; those that are cut together have the same number."""
        same = np.array([self._root(number) for number in range(len(self._parents))])
        return {
            value: Channels(axis, same[numbers])
            for value, (axis, numbers) in self._channels.items()
        }

    def follow(self, node: AnyNode) -> None:
        """Note the channels of what a node makes."""
        match node:
            case Conv(groups=1) | ConvTranspose():
                self._set(node.name, 1, self._new(node.channels[1]))
            case Conv() if node.groups == node.channels[0]:
                read = self._read(node.inputs[0], 1)
                self._set(node.name, 1, np.repeat(read, node.channels[1] // node.groups))
            case Constant(shape=(1, count, 1, 1)):
                self._set(node.name, 1, self._new(count))
            case BatchNorm() | Pool() | GlobalPool() | Resize():  # the second input is but a size
                self._set(node.name, 1, self._read(node.inputs[0], 1))
            case Activation() | Function() | Arithmetic(inputs=(_,)):
                self._pass(node.inputs[0], node.name)
            case Softmax():
                self._keep_out(node.inputs[0], node.axis)
                self._pass(node.inputs[0], node.name)
            case Concat():
                read = np.concatenate([self._read(value, node.axis) for value in node.inputs])
                self._set(node.name, node.axis, read)
            case _:
                self._follow_rare(node)

    def _follow_rare(self, node: AnyNode) -> None:
        match node:
            case Arithmetic():
                self._combine(node)
            case Split():
                self._split(node)
            case Transpose():
                if known := self._channels.get(node.inputs[0]):
                    self._set(node.name, node.order.index(known.axis), known.numbers)
            case Reshape():
                self._reshape(node)
            case MatMul():
                self._multiply(node)
            case Linear() if len(self._shapes[node.inputs[0]]) == _ROWS:
                self._read(node.inputs[0], 1)  # what it makes stays
            case Grid() | Constant():  # what they read only says how large they are
                pass
            case _:
                for value in node.inputs:
                    self.fix(value)

    def fix(self, value: str) -> None:
        """Let all channels of a value stay."""
        if known := self._channels.get(value):
            self._join(known.numbers, np.zeros_like(known.numbers))

    def _combine(self, node: Arithmetic) -> None:
        known = self._channels.get(node.inputs[0]) or self._channels.get(node.inputs[1])
        if known is None:
            return
        first, second = (self._read(value, known.axis) for value in node.inputs)
        if len(first) != len(second):  # a single channel that is combined with every one
            single, first = (first, second) if len(first) == 1 else (second, first)
            self._join(single, np.zeros_like(single))
        else:
            self._join(first, second)
        self._set(node.name, known.axis, first)

    def _split(self, node: Split) -> None:
        if known := self._channels.get(node.inputs[0]):
            parts = [known.numbers] * len(node.sizes)
            if known.axis == node.axis:
                parts = np.split(known.numbers, np.cumsum(node.sizes)[:-1])
            for value, part in zip(node.outputs, parts, strict=True):
                self._set(value, known.axis, part)

    def _reshape(self, node: Reshape) -> None:
        """Channels become those of several heads, or those of several heads become one row.

        Their axis is where one channel has as many numbers as before.
        """
        known = self._channels.get(node.inputs[0])
        if known is None:
            return
        before, after = self._shapes[node.inputs[0]], self._shapes[node.name]
        inner, count = math.prod(before[known.axis + 1 :]), before[known.axis]
        for axis, size in enumerate(after):
            if size > 1 and math.prod(after[axis + 1 :]) == inner:
                if count % size == 0:
                    heads = known.numbers.reshape(-1, size)
                    self._join(np.broadcast_to(heads[0], heads.shape), heads)
                    self._set(node.name, axis, heads[0])
                    return
                if size % count == 0:
                    self._set(node.name, axis, np.tile(known.numbers, size // count))
                    return
        self.fix(node.inputs[0])

    def _multiply(self, node: MatMul) -> None:
        """Rows are those of the first matrix, columns those of the second; what is summed over is in both."""
        first, second = node.inputs
        row, column = len(self._shapes[first]) - 2, len(self._shapes[first]) - 1
        inner = self._channels.get(first), self._channels.get(second)
        axes = tuple(known.axis if known else None for known in inner)
        if axes == (column, row):
            self._join(self._read(first, column), self._read(second, row))
        elif axes == (row, None):
            self._set(node.name, row, self._read(first, row))
        elif axes == (None, column):
            self._set(node.name, column, self._read(second, column))
        else:
            self.fix(first)
            self.fix(second)

    def _pass(self, value: str, made: str) -> None:
        if known := self._channels.get(value):
            self._channels[made] = known

    def _keep_out(self, value: str, axis: int) -> None:
        known = self._channels.get(value)
        if known and known.axis == axis:
            self.fix(value)

    def _read(self, value: str, axis: int) -> Numbers:
        """The numbers in an axis of a value; where they lie in another one, they stay."""
        known = self._channels.get(value)
        if known and known.axis == axis:
            return known.numbers
        self.fix(value)
        return np.zeros(self._shapes[value][axis], np.int64)

    def _set(self, value: str, axis: int, numbers: Numbers) -> None:
        if numbers.any():
            self._channels[value] = Channels(axis, numbers)

    def _new(self, count: int) -> Numbers:
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _join(self, some: Numbers, others: Numbers) -> None:
        for one, other in zip(some.ravel().tolist(), others.ravel().tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parents[high] = low

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number


def _grouped(channels: Mapping[str, Channels]) -> Structure:
    """Number the channels anew, group after group."""
    groups: list[Group] = []
    renumbered = np.zeros(
        1 + max((int(c.numbers.max()) for c in channels.values()), default=0), int
    )
    first = 1
    for maker, runs in _runs(channels).items():
        for count, run in enumerate(runs):
            groups.append(Group(f"{maker}.{count}" if len(runs) > 1 else maker, first, len(run)))
            renumbered[run] = np.arange(first, first + len(run))
            first += len(run)
    new = {
        value: Channels(axis, renumbered[numbers]) for value, (axis, numbers) in channels.items()
    }
    return Structure(tuple(groups), {value: it for value, it in new.items() if it.numbers.any()})


def _runs(channels: Mapping[str, Channels]) -> dict[str, list[list[int]]]:
    """The numbers of every group by the first value that has them: a group are those that occur in the same values."""
    makers: dict[int, str] = {}
    places: dict[int, list[int]] = {}
    for place, (value, (_, numbers)) in enumerate(channels.items()):
        for number in numbers.tolist():
            makers.setdefault(number, value)
            places.setdefault(number, []).append(place)
    places.pop(_FIXED, None)
    members: dict[tuple[int, ...], list[int]] = {}
    for number, where in places.items():
        members.setdefault(tuple(where), []).append(number)
    found: dict[str, list[list[int]]] = {}
    for run in members.values():
        found.setdefault(makers[run[0]], []).append(run)
    return found
