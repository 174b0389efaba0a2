"""Weights in compressed form: the operands of Core ML's decompressing operations.

`constexpr_lut_to_dense` looks up an index per weight in a table, `constexpr_affine_dequantize`
scales 8-bit integers per channel, `constexpr_sparse_to_dense` puts values where a mask has ones and
zeros elsewhere. Programs for iOS 18 store these in other shapes, scale 8- or 4-bit integers per block
(`constexpr_blockwise_shift_scale`), and may store sparse values as indices or integers
(`constexpr_lut_to_sparse`, `constexpr_sparse_blockwise_shift_scale`). Format: the reference of these
MIL operations in coremltools 9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_coreml.mlpackage.weight_file import pack, record_size

Array = NDArray[Any]
Mask = NDArray[np.bool_]

SPARSE = "constexpr_sparse_to_dense"
_FLOATS = {2: "FLOAT16", 4: "FLOAT32"}
_IN_FILE = 10  # coremltools puts values of at least so many elements into the weight file


@dataclass(frozen=True)
class Operand:
    """A constant operand of an operation.

    `data` holds its elements, packed; `padding_bits` at the end of the last byte are unused.
    """

    type: str
    shape: tuple[int, ...]
    data: bytes
    padding_bits: int = 0

    @property
    def in_file(self) -> bool:
        """Whether the operand lies in the weight file, not in the program."""
        return math.prod(self.shape) >= _IN_FILE


@dataclass(frozen=True)
class Encoded:
    """A weight in compressed form: the MIL operation that decompresses it, and its operands."""

    operation: str
    operands: Mapping[str, Operand]

    def size(self) -> int:
        """Bytes that the operands take."""
        return sum(len(operand.data) for operand in self.operands.values())

    def stored(self) -> int:
        """Bytes that the operands take in the weight file, with their records and padding."""
        stored = (operand for operand in self.operands.values() if operand.in_file)
        return sum(record_size(len(operand.data)) for operand in stored)


def floats(array: Array) -> Operand:
    """An fp16 or fp32 array as it is."""
    return Operand(_FLOATS[array.dtype.itemsize], array.shape, array.tobytes())


def palette(
    indices: NDArray[np.uint8], tables: Array, bits: int, kept: Mask | None = None, *, ios18: bool
) -> Encoded:
    """Tables `[groups, 2**bits]` and an index per weight `[out, in, height, width]`.

    Each group is a run of equally many output channels. Only iOS 18 has more than one group, and
    `kept`: the weights that have an index, while the others are zero.
    """
    if not ios18:
        lut = floats(tables.reshape(1 << bits))
        operands = {"indices": _bytes(indices, bits), "lut": lut, "shape": _shape(indices)}
        return Encoded("constexpr_lut_to_dense", operands)
    lut = floats(tables.reshape(len(tables), *(1,) * (indices.ndim - 1), 1 << bits, 1))
    if kept is None:
        return Encoded("constexpr_lut_to_dense", {"indices": _packed(indices, bits), "lut": lut})
    stored = {
        "indices_mask": _packed(kept, 1),
        "indices_nonzero_data": _packed(indices[kept], bits),
    }
    return Encoded("constexpr_lut_to_sparse", {**stored, "lut": lut})


def integers(
    steps: NDArray[np.int8],
    scale: Array,
    zero: NDArray[np.int8],
    bits: int,
    kept: Mask | None = None,
    *,
    ios18: bool,
) -> Encoded:
    """int8 or int4 steps `[out, in, height, width]`, which stand for scale * (step - zero).

    `scale` and `zero` `[out, blocks, 1, 1]` hold a number for each block of input channels. Only iOS
    18 has several blocks, int4, and `kept`: the weights that are stored, while the others are zero.
    """
    if not ios18:
        operands = {
            "quantized_data": _packed(steps, 8),
            "zero_point": _packed(zero.reshape(-1), 8),
            "scale": floats(scale.reshape(-1)),
            "axis": Operand("INT32", (), np.array(0, "<i4").tobytes()),
        }
        return Encoded("constexpr_affine_dequantize", operands)
    blocks = {"scale": floats(scale), "offset": _packed(zero, bits)}
    if kept is None:
        return Encoded("constexpr_blockwise_shift_scale", {"data": _packed(steps, bits), **blocks})
    stored = {"data_mask": _packed(kept, 1), "nonzero_data": _packed(steps[kept], bits)}
    return Encoded("constexpr_sparse_blockwise_shift_scale", {**stored, **blocks})


def sparse(weight: Array, kept: Mask, *, ios18: bool) -> Encoded:
    """The weights that are `kept` `[out, in, height, width]`, a value each; the others are zero."""
    values = floats(weight[kept])
    if ios18:
        return Encoded(SPARSE, {"nonzero_data": values, "mask": _packed(kept, 1)})
    mask = {"mask": _bytes(kept, 1), "shape": _shape(kept)}
    return Encoded(SPARSE, {"nonzero_data": values, **mask})


def _bytes(numbers: Array, bits: int) -> Operand:
    """Packed numbers as iOS 16 stores them: as bytes, with the shape in an operand of its own."""
    packed, _ = pack(numbers.astype(np.uint8), bits)
    return Operand("UINT8", (len(packed),), packed)


def _shape(numbers: Array) -> Operand:
    return Operand("UINT32", (numbers.ndim,), np.array(numbers.shape, "<u4").tobytes())


def _packed(numbers: Array, bits: int) -> Operand:
    """Integers or flags of `bits` each; int8 numbers stay signed."""
    packed, padding = pack(numbers.astype(np.uint8), bits)
    kind = "INT" if numbers.dtype == np.int8 else "UINT"
    return Operand(f"{kind}{bits}", numbers.shape, packed, padding)
