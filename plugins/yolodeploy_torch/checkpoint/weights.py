"""The numbers in a checkpoint: where they lie and what shape they have. They are read when somebody asks for them.

So reading a model needs no PyTorch, and saying what a model is does not read its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_torch.graph import Shape, Unsupported

Floats = NDArray[np.float32]
_BFLOAT16 = "bfloat16"  # the upper half of a float32; NumPy has no such type
_FLOATS = frozenset({"float16", _BFLOAT16, "float32", "float64"})
_TYPES: Mapping[str, np.dtype[Any]] = {
    _BFLOAT16: np.dtype("<u2"),
    "bool": np.dtype("?"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}


@dataclass(frozen=True, eq=False)
class Storage:
    """`count` numbers of one kind ("float16") in a file; `read` gives their bytes, the same array every time."""

    kind: str
    count: int
    read: Callable[[], NDArray[np.uint8]] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in a checkpoint: a view of a storage; `strides` and `offset` count numbers, not bytes."""

    storage: Storage
    shape: Shape
    strides: Shape
    offset: int

    @property
    def kind(self) -> str:
        """The type of its numbers, such as "float16"."""
        return self.storage.kind

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take, each of them counted."""
        return self.size * item_size(self.kind)

    @property
    def floating(self) -> bool:
        """Whether its numbers are floating-point."""
        return self.kind in _FLOATS

    def numbers(self) -> NDArray[Any]:
        """Its numbers, which may share the memory of the storage; bfloat16 as float32."""
        if not self.size:
            return np.empty(self.shape, _TYPES[self.kind])
        flat = self.storage.read().view(_TYPES[self.kind])[self.offset :]
        steps = tuple(step * flat.itemsize for step in self.strides)
        found = np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        if self.kind != _BFLOAT16:
            return found
        return (found.astype(np.uint32) << 16).view(np.float32)

    def weight(self) -> Weight:
        """The same as float32."""
        return Weight(self.shape, lambda: self.numbers().astype(np.float32, copy=False))


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor of a model: its shape, and what gives its numbers."""

    shape: Shape
    numbers: Callable[[], Floats] = field(repr=False)

    def reshaped(self, shape: Shape) -> Weight:
        """The same numbers in another shape."""
        return Weight(shape, lambda: self.numbers().reshape(shape))

    def minus(self, other: Weight) -> Weight:
        """The difference from a tensor of the same shape; raises `Unsupported` for another shape."""
        if self.shape != other.shape:
            raise Unsupported(f"a bias of shape {other.shape} stands before {self.shape} channels")
        return Weight(self.shape, lambda: self.numbers() - other.numbers())


def item_size(kind: str) -> int:
    """The bytes of one number of a kind."""
    return _TYPES[kind].itemsize
