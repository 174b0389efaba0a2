"""A tensor as a short table of values and an index per element: palettes, codebooks.

Lloyd's algorithm (S. Lloyd, "Least squares quantization in PCM", 1982) clusters the numbers. They
are sorted once, so that a cluster is a run of them and its mean comes from cumulative sums: a round
costs a search per table entry instead of a pass over the tensor. Nothing is random: the table starts
with entries as dense as the cube root of the numbers' density, which is optimal for fine
quantization (P. F. Panter, W. Dite, 1951).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_Wide = NDArray[np.float64]

_ROUNDS = 300


@dataclass(frozen=True)
class Codebook:
    """`values` float32 `[entries]`, ascending; `indices` uint8, of the tensor's shape."""

    values: Floats
    indices: NDArray[np.uint8]

    def dense(self) -> Floats:
        """The tensor that the table and the indices represent."""
        return self.values[self.indices]


def kmeans(tensor: Floats, entries: int, importance: Floats | None = None) -> Codebook:
    """Find a table of at most 256 `entries` whose squared error is a local minimum.

    `importance`, of the tensor's shape, weighs each element's squared error. A tensor with
    fewer distinct values than entries is kept exactly; its table repeats the last value.
    """
    numbers, places = np.unique(tensor, return_inverse=True)
    weights = None if importance is None else importance.ravel().astype(np.float64)
    counts = np.bincount(places.ravel(), weights, minlength=len(numbers))
    table = _cluster(numbers.astype(np.float64), counts.astype(np.float64), entries)
    return nearest(tensor, table)


def balance(weights: Floats) -> Floats:
    """Importance that balances loud and quiet channels of weights `[out channels, ...]`.

    One table serves all channels. Equal importance would spend it on the channels with large weights;
    importance by inverse energy, for equal relative error, on those with small weights, which often
    matter little. This is the middle: the inverse root mean square of each channel.
    """
    axes = tuple(range(1, weights.ndim))
    energy = np.square(weights, dtype=np.float64).mean(axes, keepdims=True)
    energy = np.maximum(energy, 1e-6 * energy.mean() or 1.0)  # for channels of zeros
    return np.broadcast_to(1 / np.sqrt(energy), weights.shape).astype(np.float32)


def uniform(tensor: Floats, entries: int) -> Codebook:
    """Encode by a table of evenly spaced values from the tensor's minimum to its maximum."""
    return nearest(tensor, np.linspace(tensor.min(), tensor.max(), entries))


def nearest(tensor: Floats, table: _Wide | Floats) -> Codebook:
    """Encode each element as the nearest value of an ascending table."""
    values = table.astype(np.float32)
    borders = (values[1:] + values[:-1]) / 2
    return Codebook(values, np.searchsorted(borders, tensor).astype(np.uint8))


def _cluster(numbers: _Wide, counts: _Wide, entries: int) -> _Wide:
    """Means of the clusters of ascending, distinct numbers; `counts` are their weights."""
    if len(numbers) <= entries:
        return np.pad(numbers, (0, entries - len(numbers)), mode="edge")
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * numbers)])
    table = _start(numbers, counts, entries)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(numbers, (table[1:] + table[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(numbers)]])
        inside = np.diff(mass[edges])
        means = np.divide(np.diff(moment[edges]), inside, out=table.copy(), where=inside > 0)
        means.sort()
        if np.array_equal(means, table):
            break
        table = means
    return table


def _start(numbers: _Wide, counts: _Wide, entries: int) -> _Wide:
    """Spread entries by the cube root of density: over the gap g to the next, weight w, cbrt(w g^2)."""
    gaps = np.diff(numbers)
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(counts[1:] * gaps * gaps))])
    wanted = (np.arange(entries) + 0.5) / entries * share[-1]
    start: _Wide = np.interp(wanted, share, numbers)
    return start
