"""A layer in the tree of a checkpoint: its class, children, settings and tensors, each checked when it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from yolodeploy.system import quotable
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Stored, Weight
from yolodeploy_torch.graph import Unsupported

MAX_ENTRIES = 20_000  # modules and weights by path from the root; YOLO12x has 5,047
MAX_DEPTH = 32
_NAME = re.compile(r"\w{1,64}", re.ASCII)
_Kind = TypeVar("_Kind")


class Block:
    """One module of a checkpoint; `name` is the prefix of its weights' names, `kind` its class.

    `read` collects the names of the tensors that were read, of all blocks of a model.
    """

    def __init__(self, node: Node, name: str = "", read: set[str] | None = None) -> None:
        self.node, self.name, self.kind = node, name, node.kind
        self.read = set() if read is None else read

    @property
    def what(self) -> str:
        """The module as a message names it."""
        kind = quotable(self.kind)
        return f"its layer {self.name} ({kind})" if self.name else f"its {kind}"

    def has(self, name: str) -> bool:
        """Whether it has a child of this name."""
        return table(self.node, "_modules").get(name) is not None

    def child(self, name: str) -> Block:
        """A child; raises `Unsupported` if there is none."""
        return self._child(name, table(self.node, "_modules").get(name))

    def _child(self, name: str, node: object) -> Block:
        if not isinstance(node, Node):
            raise Unsupported(f"{self.what} has no `{name}`")
        return Block(node, f"{self.name}.{name}" if self.name else name, self.read)

    def leave(self, name: str) -> None:
        """Leave a child out, if there is one: its tensors are for training alone."""
        if self.has(name):
            child = self.child(name)
            for prefix, node in modules(child.node):
                for key in (*table(node, "_parameters"), *table(node, "_buffers")):
                    self.read.add(f"{child.name}.{prefix}{key}")

    def children(self) -> list[Block]:
        """The children of a list or a sequence, in order."""
        found = table(self.node, "_modules")
        if list(found) != [str(number) for number in range(len(found))]:
            raise Unsupported(f"{self.what} is no sequence of layers")
        return [self._child(name, node) for name, node in found.items()]

    def setting(self, name: str, kind: type[_Kind], default: _Kind | None = None) -> _Kind:
        """An attribute of exactly this type; `default` where the checkpoint is older than the attribute."""
        value = self.node.state.get(name, default)
        if type(value) is not kind:
            raise Unsupported(f"{self.what} has no usable `{name}`")
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """A size as two whole numbers; one number stands for both."""
        value = self.node.state.get(name)
        numbers = value if isinstance(value, tuple | list) else (value, value)
        if len(numbers) != 2 or not all(type(number) is int for number in numbers):
            raise Unsupported(f"{self.what} has no usable `{name}`")
        return int(numbers[0]), int(numbers[1])

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self.node.state.get(name)
        if not isinstance(value, tuple | list) or not all(type(number) is int for number in value):
            raise Unsupported(f"{self.what} has no usable `{name}`")
        return tuple(value)

    def tensor(self, name: str) -> Weight | None:
        """A parameter or a buffer as float32, None if it has none of this name."""
        value = {**table(self.node, "_parameters"), **table(self.node, "_buffers")}.get(name)
        if value is None:
            return None
        full = f"{self.name}.{name}"
        found = stored(value, full)
        if not found.floating:
            raise Unsupported(
                f"its weight {full} is torch.{found.kind}, where torch.float32 is needed"
            )
        self.read.add(full)
        return found.weight()

    def weight(self, name: str, axes: int) -> Weight:
        """A tensor that it must have, with this number of axes."""
        value = self.tensor(name)
        if value is None or len(value.shape) != axes:
            raise Unsupported(f"{self.what} has no usable weight `{name}`")
        return value


def modules(root: Node) -> Iterator[tuple[str, Node]]:
    """Every module with the prefix of its weights' names.

    Refuses a tree that is deep, or that contains itself: a small file can make one without end.
    """
    pending, count = [("", root)], 0
    while pending:
        prefix, node = pending.pop()
        count += sum(len(table(node, name)) for name in ("_modules", "_parameters", "_buffers"))
        if count > MAX_ENTRIES or prefix.count(".") > MAX_DEPTH:
            raise Unsupported(
                f"its layers are nested deeper than {MAX_DEPTH}, or it has more than {MAX_ENTRIES:,} layers "
                "and weights"
            )
        yield prefix, node
        children = table(node, "_modules").items()
        pending += [(f"{prefix}{name}.", child) for name, child in children if child is not None]


def table(node: Node, name: str) -> Mapping[str, Any]:
    """A table of a module by the names of what is in it; raises `Unsupported` if it is damaged."""
    if not isinstance(node, Node):
        raise Unsupported(f"it holds a {type(node).__name__} where a layer should be")
    found = node.state.get(name, {})
    if not isinstance(found, dict) or not all(map(_is_name, found)):
        raise Unsupported(f"its {quotable(node.kind)} is damaged")
    return found


def _is_name(key: object) -> bool:
    return isinstance(key, str) and _NAME.fullmatch(key) is not None


def stored(tensor: object, name: str) -> Stored:
    """A tensor of the file; raises `Unsupported` if it is anything else."""
    if not isinstance(tensor, Stored):
        raise Unsupported(f"its weight {name} is a {type(tensor).__name__}")
    return tensor
