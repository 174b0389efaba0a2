"""The ways to compress one convolution's weights, with or without compensation of their errors.

A scheme takes weights `[out, in, height, width]` in the type that they are stored in, the layer's
`Rounding` if its inputs are known, and of a sparse layer which weights are kept; the others stay zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy.codebook import balance, kmeans, nearest, uniform
from yolodeploy_coreml import encodings
from yolodeploy_coreml.compensate import Rounding, Snap, to_grid, to_tables
from yolodeploy_coreml.encodings import Mask
from yolodeploy_coreml.program import Encoded

Array = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Compressed:
    """A layer's weights in compressed form, and what they expand to: float32 `[out, columns]`."""

    encoded: Encoded
    dense: Tensor


Scheme = Callable[[Array, Rounding | None, Mask | None], Compressed]


def palettes(
    bits: int, mode: Literal["kmeans", "uniform"], group_size: int | None, *, ios18: bool
) -> Scheme:
    """Tables of 2**bits values, each for `group_size` output channels (None, or no divisor: for all)."""

    def scheme(weight: Array, rounding: Rounding | None, mask: Mask | None = None) -> Compressed:
        rows, kept = _rows(weight), _kept(weight, mask)
        importance = balance(rows) if rounding is None else rounding.importance().numpy()
        size = group_size or len(rows)
        if len(rows) % size:
            size = len(rows)
        starts = range(0, len(rows), size)
        runs = [(slice(i, i + size), kept[i : i + size]) for i in starts]
        tables = np.stack(
            [_table(rows[run][own], importance[run][own], bits, mode) for run, own in runs]
        ).astype(weight.dtype)
        wanted = rows
        if rounding is not None:
            snap = to_tables(torch.from_numpy(tables.astype(np.float32)), len(rows))
            wanted = rounding.solve(_zeroing(snap, kept)).numpy()
        books = [nearest(wanted[i : i + size], t) for i, t in zip(starts, tables, strict=True)]
        indices = np.concatenate([book.indices for book in books]).reshape(weight.shape)
        dense = np.concatenate([book.dense() for book in books]) * kept
        if mask is None:
            encoded = encodings.palette(indices, tables, bits, ios18=ios18)
        else:
            encoded = encodings.sparse_palette(indices, mask, tables, bits)
        return Compressed(encoded, torch.from_numpy(dense))

    return scheme


def _table(rows: Floats, importance: Floats, bits: int, mode: str) -> Floats:
    if not rows.size:
        return np.zeros(1 << bits, np.float32)  # channels of which nothing is kept
    if mode == "uniform":
        return uniform(rows, 1 << bits).values
    return kmeans(rows, 1 << bits, importance).values


def int8(*, ios18: bool) -> Scheme:
    """Each output channel's range, zero included, in 256 steps."""

    def scheme(weight: Array, rounding: Rounding | None, mask: Mask | None = None) -> Compressed:
        rows, kept = _rows(weight), _kept(weight, mask)
        scale, zero = _ranges(rows, 8, weight.dtype)
        flat, dense = _rounded(rows, scale[:, None], zero[:, None], 8, rounding, kept)
        steps, offset = flat.reshape(weight.shape), zero.astype(np.int8)
        if mask is None:
            return Compressed(encodings.affine(steps, scale, offset, ios18=ios18), dense)
        shape = (len(rows),) + (1,) * (weight.ndim - 1)
        encoded = encodings.sparse_blockwise(
            steps, mask, scale.reshape(shape), offset.reshape(shape), 8
        )
        return Compressed(encoded, dense)

    return scheme


def int4(block_size: int) -> Scheme:
    """Blocks of at most `block_size` input channels of each output channel, each in 16 steps."""

    def scheme(weight: Array, rounding: Rounding | None, mask: Mask | None = None) -> Compressed:
        rows, kept, channels = _rows(weight), _kept(weight, mask), weight.shape[1]
        block = max(size for size in range(1, block_size + 1) if channels % size == 0)
        columns = block * weight.shape[2] * weight.shape[3]
        scale, zero = _ranges(rows.reshape(-1, columns), 4, weight.dtype)
        scale, zero = scale.reshape(len(rows), -1), zero.reshape(len(rows), -1)
        wide, shift = (np.repeat(each, columns, axis=1) for each in (scale, zero))
        flat, dense = _rounded(rows, wide, shift, 4, rounding, kept)
        steps, shape = flat.reshape(weight.shape), (*scale.shape, 1, 1)
        scale, offset = scale.reshape(shape), zero.astype(np.int8).reshape(shape)
        if mask is None:
            return Compressed(encodings.blockwise(steps, scale, offset, 4), dense)
        return Compressed(encodings.sparse_blockwise(steps, mask, scale, offset, 4), dense)

    return scheme


def _ranges(rows: Floats, bits: int, dtype: np.dtype[Any]) -> tuple[Array, Floats]:
    """Scale and zero point that map each row's range, zero included, to the integers of `bits`."""
    least, count = -(1 << (bits - 1)), (1 << bits) - 1
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    scale = ((high - low) / count).astype(dtype)
    scale[scale == 0] = 1  # a row of zeros
    zero = np.clip(np.round(least - low / scale.astype(np.float32)), least, least + count)
    return scale, zero


def _rounded(
    rows: Floats, scale: Array, zero: Floats, bits: int, rounding: Rounding | None, kept: Mask
) -> tuple[NDArray[np.int8], Tensor]:
    """Integers `[out, columns]` and what they stand for."""
    wide = np.broadcast_to(scale.astype(np.float32), rows.shape)
    zero = np.broadcast_to(zero, rows.shape)
    wanted = rows
    if rounding is not None:
        snap = to_grid(torch.from_numpy(wide.copy()), torch.from_numpy(zero.copy()), bits)
        wanted = rounding.solve(_zeroing(snap, kept)).numpy()
    least = -(1 << (bits - 1))
    steps = np.clip(np.round(wanted / wide) + zero, least, -least - 1)
    return steps.astype(np.int8), torch.from_numpy((steps - zero) * wide * kept)


def pruned(kept: Mask, *, ios18: bool) -> Scheme:
    """The weights that are `kept` `[out, in, height, width]`; zero in place of the others."""

    def scheme(weight: Array, rounding: Rounding | None, _mask: Mask | None) -> Compressed:
        own = kept.reshape(len(kept), -1)
        rows = _rows(weight) * own
        if rounding is not None:
            rows = rounding.solve(_zeroing(lambda _column, wanted: wanted, own)).numpy()
        values = rows.astype(weight.dtype)
        encoded = encodings.sparse(values.reshape(weight.shape), kept, ios18=ios18)
        return Compressed(encoded, torch.from_numpy(values.astype(np.float32)))

    return scheme


def _zeroing(snap: Snap, kept: Mask) -> Snap:
    """As `snap`, with zero where a weight `[out, columns]` is not kept."""
    if kept.all():
        return snap
    ones = torch.from_numpy(kept)
    return lambda column, wanted: snap(column, wanted) * ones[:, column]


def _kept(weight: Array, mask: Mask | None) -> Mask:
    """Which weights `[out, columns]` are kept: without a mask, all."""
    ones = np.ones(weight.shape, np.bool_) if mask is None else mask
    return ones.reshape(len(weight), -1)


def _rows(weight: Array) -> Floats:
    return weight.reshape(len(weight), -1).astype(np.float32)
