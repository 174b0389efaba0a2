"""Choosing the threshold at which the values of a blob are cut off, from their counts.

A value x becomes clip(round(x / s), -127, 127) with the step s = threshold / 127. A high threshold
rounds everything coarsely, a low one cuts off large values; the methods weigh the two differently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolodeploy_ncnn.int8.calibrate import BINS, EDGES, Statistics

Method = Literal["mse", "kl", "percentile"]
LEVELS = 127
_SHARE = 0.99999  # of values that `percentile` leaves uncut
_OCTAVES = 6  # below the greatest value: no lower threshold is tried
_INSIDE = 8  # points in each bin at which rounding is evaluated

_Wide = NDArray[np.float64]
_EDGES: _Wide = EDGES.astype(np.float64)
_POINTS: _Wide = _EDGES[:-1, None] + np.diff(_EDGES)[:, None] * (np.arange(_INSIDE) + 0.5) / _INSIDE


def threshold(statistics: Statistics, energy: _Wide, method: Method) -> float:
    """The threshold of a blob for one convolution; 1 for a blob of zeros.

    `energy` `[channels]` is the factor by which the convolution multiplies the squared error of each
    channel: the sum of its squared weights over kernel and output channels.
    """
    if not statistics.peak:
        return 1.0
    counts = statistics.counts.sum(1)
    if method == "percentile":
        below = counts.sum(0).cumsum()
        limit = float(_EDGES[1 + np.searchsorted(below, _SHARE * below[-1])])
    elif method == "mse":
        # The expected squared error of the convolution's output, for independent input errors.
        weighed = (energy[:, None] * counts).sum(0)
        limit = _best(statistics, lambda limit: float((weighed * errors(limit)[1]).sum()))
    else:
        total = counts.sum(0).astype(np.float64)
        mass = np.concatenate([[0.0], total.cumsum()]) / total.sum()
        limit = _best(statistics, lambda limit: _divergence(mass, limit))
    return min(limit, statistics.peak)


@functools.lru_cache(maxsize=BINS)  # layers try many of the same thresholds
def errors(limit: float) -> tuple[_Wide, _Wide]:
    """The mean error and the mean squared error `[BINS]` of the values in each bin, for a threshold."""
    step = limit / LEVELS
    error = np.minimum(np.rint(_POINTS / step), LEVELS) * step - _POINTS
    return error.mean(1), np.square(error).mean(1)


def mean_error(statistics: Statistics, limit: float) -> _Wide:
    """The shift of each channel's mean by quantization, for a threshold."""
    signed = statistics.counts[:, 0] - statistics.counts[:, 1]
    error: _Wide = (signed * errors(limit)[0]).sum(1) / statistics.count
    return error


def _divergence(mass: _Wide, limit: float) -> float:
    """The Kullback-Leibler divergence of the quantized distribution from the original.

    S. Migacz, "8-bit inference with TensorRT", 2017: values that are cut off count as mass at the
    threshold in the original and are missing in the quantized distribution. `mass` is the share of
    the values below each edge of a bin, taken as even between edges and within each level.
    """
    inner = (np.arange(LEVELS) + 0.5) / LEVELS * limit
    levels = np.concatenate([[0.0], inner, [limit]])
    edges = np.concatenate([[0.0], _EDGES[1:]])
    cells = np.union1d(levels, edges[edges < limit])
    exact = np.diff(np.interp(cells, edges, mass))
    rough = np.diff(np.interp(cells, levels, np.interp(levels, edges, mass)))
    rough /= rough.sum()
    exact[-1] += 1 - exact.sum()
    used = exact > 0
    return float((exact[used] * np.log(exact[used] / np.maximum(rough[used], 1e-12))).sum())


def _best(statistics: Statistics, error: Callable[[float], float]) -> float:
    """The threshold of least error among the upper edges of the bins of the last octaves."""
    top = int(np.searchsorted(_EDGES[1:-1], statistics.peak))
    per_octave = BINS // round(np.log2(_EDGES[-1] / _EDGES[0]))
    first = max(0, top - _OCTAVES * per_octave)
    return min((float(_EDGES[edge + 1]) for edge in range(first, top + 1)), key=error)
