"""Weights in compressed form: the operands of Core ML's decompressing operations.

`constexpr_lut_to_dense` looks an index per weight up in a table, `constexpr_affine_dequantize`
scales 8-bit numbers per channel, `constexpr_sparse_to_dense` puts values where a mask has ones and
zeros elsewhere. From iOS 18 on they take other shapes, `constexpr_blockwise_shift_scale` scales
8- or 4-bit numbers per block, and sparse values may be indices or integers (`..._to_sparse`,
`constexpr_sparse_...`). Format: the reference of these MIL operations in coremltools 9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_coreml.program import SPARSE, Encoded, Operand, floats

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def palette(indices: NDArray[np.uint8], tables: Array, bits: int, *, ios18: bool) -> Encoded:
    """Tables `[groups, 2**bits]` and an index per weight `[out, in, height, width]`.

    A group is a run of output channels of equal number; only iOS 18 has more than one.
    """
    if ios18:
        operands = {"indices": _unsigned(indices, bits), "lut": _tables(tables, bits, indices.ndim)}
    else:
        packed, _ = packed_bits(indices, bits)
        operands = {
            "indices": Operand("UINT8", (len(packed),), packed),
            "lut": floats(tables.reshape(1 << bits)),
            "shape": Operand("UINT32", (indices.ndim,), np.array(indices.shape, "<u4").tobytes()),
        }
    return Encoded("constexpr_lut_to_dense", operands)


def sparse(weight: Array, kept: Mask, *, ios18: bool) -> Encoded:
    """The weights that are `kept` `[out, in, height, width]`, a value each; the others are zero."""
    values = floats(weight[kept])
    if ios18:
        return Encoded(SPARSE, {"nonzero_data": values, "mask": _mask(kept)})
    packed, _ = packed_bits(kept.astype(np.uint8), 1)
    operands = {
        "nonzero_data": values,
        "mask": Operand("UINT8", (len(packed),), packed),
        "shape": Operand("UINT32", (kept.ndim,), np.array(kept.shape, "<u4").tobytes()),
    }
    return Encoded(SPARSE, operands)


def sparse_palette(indices: NDArray[np.uint8], kept: Mask, tables: Array, bits: int) -> Encoded:
    """As `palette` for the weights that are `kept`; the others are zero (iOS 18)."""
    operands = {
        "indices_mask": _mask(kept),
        "indices_nonzero_data": _unsigned(indices[kept], bits),
        "lut": _tables(tables, bits, kept.ndim),
    }
    return Encoded("constexpr_lut_to_sparse", operands)


def sparse_blockwise(
    steps: NDArray[np.int8], kept: Mask, scale: Array, zero: NDArray[np.int8], bits: int
) -> Encoded:
    """As `blockwise` for the weights that are `kept`; the others are zero (iOS 18)."""
    operands = {
        "data_mask": _mask(kept),
        "nonzero_data": _integers(steps[kept], bits),
        "scale": floats(scale),
        "offset": _integers(zero, bits),
    }
    return Encoded("constexpr_sparse_blockwise_shift_scale", operands)


def _mask(kept: Mask) -> Operand:
    return _unsigned(kept.astype(np.uint8), 1)


def _unsigned(numbers: NDArray[np.uint8], bits: int) -> Operand:
    packed, padding = packed_bits(numbers, bits)
    return Operand(f"UINT{bits}", numbers.shape, packed, padding_bits=padding)


def _tables(tables: Array, bits: int, rank: int) -> Operand:
    return floats(tables.reshape(len(tables), *(1,) * (rank - 1), 1 << bits, 1))


def packed_bits(numbers: NDArray[np.uint8], bits: int) -> tuple[bytes, int]:
    """Numbers of `bits` each without gaps, lowest bits first; and the unused bits at the end."""
    rows = np.unpackbits(numbers.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(rows, bitorder="little").tobytes(), -rows.size % 8


def affine(
    steps: NDArray[np.int8], scale: Array, zero: NDArray[np.int8], *, ios18: bool
) -> Encoded:
    """int8 `[out, ...]` with a scale and a zero point `[out]` per channel: w = scale * (q - zero)."""
    if ios18:
        shape = (len(steps),) + (1,) * (steps.ndim - 1)
        return blockwise(steps, scale.reshape(shape), zero.reshape(shape), 8)
    operands = {
        "quantized_data": Operand("INT8", steps.shape, steps.tobytes()),
        "zero_point": Operand("INT8", zero.shape, zero.tobytes()),
        "scale": floats(scale),
        "axis": Operand("INT32", (), np.array(0, "<i4").tobytes()),
    }
    return Encoded("constexpr_affine_dequantize", operands)


def blockwise(
    steps: NDArray[np.int8], scale: Array, zero: NDArray[np.int8] | None, bits: int
) -> Encoded:
    """int4 or int8 `[out, in, height, width]`; a scale for every block of equal size per axis (iOS 18)."""
    operands = {"data": _integers(steps, bits), "scale": floats(scale)}
    if zero is not None:
        operands["offset"] = _integers(zero, bits)
    return Encoded("constexpr_blockwise_shift_scale", operands)


def _integers(numbers: NDArray[np.int8], bits: int) -> Operand:
    if bits == 8:
        return Operand("INT8", numbers.shape, numbers.tobytes())
    packed, padding = packed_bits((numbers & 15).astype(np.uint8), bits)
    return Operand("INT4", numbers.shape, packed, padding_bits=padding)
