"""The ways to compress one convolution's weights, with or without compensation of their errors.

A scheme is given weights `[out, in, height, width]` in the type that they are stored in, the layer's
`Rounding` if its inputs are known, and for a sparse layer the weights that are kept; others stay zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy.compress import balance, kmeans, nearest, uniform
from yolodeploy_coreml.mlpackage import Array, Encoded, Mask, integers, palette, sparse
from yolodeploy_coreml.weights.gptq import Rounding, Snap, to_grid, to_tables

Floats = NDArray[np.float32]


# Weights in compressed form, and what they expand to: float32 `[out, columns]`.
Result = tuple[Encoded, Tensor]


@dataclass(frozen=True)
class Scheme:
    """A way to compress a layer, `compress(weight, rounding, kept)`, and what reports call it."""

    label: str
    compress: Callable[[Array, Rounding | None, Mask | None], Result]


def palette_scheme(
    bits: int, mode: Literal["kmeans", "uniform"], group_size: int | None, *, ios18: bool
) -> Scheme:
    """Tables of 2**bits values, each for `group_size` output channels (None, or no divisor: for all)."""

    def compress(weight: Array, rounding: Rounding | None, mask: Mask | None) -> Result:
        rows, kept = _rows(weight), _kept(weight, mask)
        importance = balance(rows) if rounding is None else rounding.importance().numpy()
        size = group_size or len(rows)
        if len(rows) % size:
            size = len(rows)
        groups = [slice(start, start + size) for start in range(0, len(rows), size)]
        chosen = [_table(rows[g][kept[g]], importance[g][kept[g]], bits, mode) for g in groups]
        tables = np.stack(chosen).astype(weight.dtype)
        snap = to_tables(torch.from_numpy(tables.astype(np.float32)), len(rows))
        wanted = _compensated(rows, rounding, snap, kept)
        books = [nearest(wanted[g], table) for g, table in zip(groups, tables, strict=True)]
        indices = np.concatenate([book.indices for book in books]).reshape(weight.shape)
        dense = np.concatenate([book.dense() for book in books]) * kept
        return palette(indices, tables, bits, mask, ios18=ios18), torch.from_numpy(dense)

    return Scheme(f"{bits}-bit palette", compress)


def _table(rows: Floats, importance: Floats, bits: int, mode: str) -> Floats:
    if not rows.size:
        return np.zeros(1 << bits, np.float32)  # channels of which nothing is kept
    if mode == "uniform":
        return uniform(rows, 1 << bits).values
    return kmeans(rows, 1 << bits, importance).values


def integer_scheme(bits: int, block_size: int | None, *, ios18: bool) -> Scheme:
    """Blocks of input channels of each output channel, the range of each in 2**bits steps.

    A block has at most `block_size` channels and divides them equally; None: all of them.
    """

    def compress(weight: Array, rounding: Rounding | None, mask: Mask | None) -> Result:
        rows, kept, channels = _rows(weight), _kept(weight, mask), weight.shape[1]
        block = next(n for n in range(block_size or channels, 0, -1) if channels % n == 0)
        columns = block * math.prod(weight.shape[2:])
        scale, zero = _ranges(rows.reshape(-1, columns), bits, weight.dtype)
        scale, zero = scale.reshape(len(rows), -1), zero.reshape(len(rows), -1)
        wide = np.repeat(scale.astype(np.float32), columns, axis=1)
        shift = np.repeat(zero, columns, axis=1)
        snap = to_grid(torch.from_numpy(wide), torch.from_numpy(shift), bits)
        wanted, least = _compensated(rows, rounding, snap, kept), -(1 << (bits - 1))
        flat = np.clip(np.round(wanted / wide) + shift, least, -least - 1)
        steps, shape = (
            flat.astype(np.int8).reshape(weight.shape),
            scale.shape + (1,) * (weight.ndim - 2),
        )
        scale, offset = scale.reshape(shape), zero.astype(np.int8).reshape(shape)
        encoded = integers(steps, scale, offset, bits, mask, ios18=ios18)
        return encoded, torch.from_numpy((flat - shift) * wide * kept)

    return Scheme(f"int{bits} weights", compress)


def _ranges(rows: Floats, bits: int, dtype: np.dtype[Any]) -> tuple[Array, Floats]:
    """Scale and zero point that map each row's range, zero included, to the integers of `bits`."""
    least, count = -(1 << (bits - 1)), (1 << bits) - 1
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    scale = ((high - low) / count).astype(dtype)
    scale[scale == 0] = 1  # a row of zeros
    zero = np.clip(np.round(least - low / scale.astype(np.float32)), least, least + count)
    return scale, zero


def sparse_scheme(kept: Mask, label: str, *, ios18: bool) -> Scheme:
    """The weights that are `kept` `[out, in, height, width]`; zero in place of the others."""

    def compress(weight: Array, rounding: Rounding | None, _: Mask | None) -> Result:
        own = kept.reshape(len(kept), -1)
        rows = _compensated(_rows(weight) * own, rounding, lambda _column, wanted: wanted, own)
        values = rows.astype(weight.dtype)
        encoded = sparse(values.reshape(weight.shape), kept, ios18=ios18)
        return encoded, torch.from_numpy(values.astype(np.float32))

    return Scheme(label, compress)


def _compensated(rows: Floats, rounding: Rounding | None, snap: Snap, kept: Mask) -> Floats:
    """The weights as `snap` rounds them, errors compensated; as they are without `rounding`."""
    if rounding is None:
        return rows
    if not kept.all():
        ones, nearest_allowed = torch.from_numpy(kept), snap

        def snap(column: int, wanted: Tensor) -> Tensor:
            return nearest_allowed(column, wanted) * ones[:, column]

    solved: Floats = rounding.solve(snap).numpy()
    return solved


def _kept(weight: Array, mask: Mask | None) -> Mask:
    """Which weights `[out, columns]` are kept: without a mask, all."""
    ones = np.ones(weight.shape, np.bool_) if mask is None else mask
    return ones.reshape(len(weight), -1)


def _rows(weight: Array) -> Floats:
    return weight.reshape(len(weight), -1).astype(np.float32)
