"""From the counts of a blob to the threshold of its 8-bit form: where values are cut off.

A value x becomes clip(round(x / s), -127, 127) with the step s = threshold / 127. A high threshold
rounds everything coarsely, a low one cuts the large values off; the methods weigh the two
differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolodeploy_ncnn.calibrate import BINS, EDGES, Statistics

Method = Literal["mse", "kl", "percentile"]
LEVELS = 127
_SHARE = 0.99999  # of values that `percentile` leaves uncut
_OCTAVES = 6  # below the greatest value: no lower threshold is tried
_INSIDE = 8  # points in each bin at which rounding is evaluated

_Wide = NDArray[np.float64]
_EDGES: _Wide = EDGES.astype(np.float64)
_POINTS: _Wide = _EDGES[:-1, None] + np.diff(_EDGES)[:, None] * (np.arange(_INSIDE) + 0.5) / _INSIDE


def threshold(statistics: Statistics, energy: _Wide, method: Method) -> float:
    """The threshold of a blob for one convolution.

    `energy` `[channels]` is what the convolution multiplies the squared error of each channel
    with: the sum of its squared weights over kernel and output channels. 1 for a blob of zeros.
    """
    if not statistics.peak:
        return 1.0
    return min(_METHODS[method](statistics, energy), statistics.peak)


def errors(limit: float) -> tuple[_Wide, _Wide]:
    """Mean error and mean squared error `[BINS]` of values in each bin, for a threshold."""
    step = limit / LEVELS
    error = np.minimum(np.rint(_POINTS / step), LEVELS) * step - _POINTS
    return error.mean(1), np.square(error).mean(1)


def mean_error(statistics: Statistics, limit: float) -> _Wide:
    """What quantization adds to the mean of each channel, for a threshold."""
    signed = statistics.counts[:, 0] - statistics.counts[:, 1]
    error: _Wide = (signed * errors(limit)[0]).sum(1) / statistics.count
    return error


def _mse(statistics: Statistics, energy: _Wide) -> float:
    """Least expected squared error of the convolution's output, errors of inputs independent."""
    counts = (energy[:, None] * statistics.counts.sum(1)).sum(0)
    return min(_candidates(statistics), key=lambda limit: float((counts * errors(limit)[1]).sum()))


def _percentile(statistics: Statistics, energy: _Wide) -> float:  # noqa: ARG001 - one of three
    counts = statistics.counts.sum((0, 1)).cumsum()
    return float(_EDGES[1 + np.searchsorted(counts, _SHARE * counts[-1])])


def _kl(statistics: Statistics, energy: _Wide) -> float:  # noqa: ARG001 - one of three
    """Least Kullback-Leibler divergence of the quantized distribution from the original.

    S. Migacz, "8-bit inference with TensorRT", 2017: what is cut off counts as mass at the
    threshold in the original and is missing in the quantized distribution.
    """
    counts = statistics.counts.sum((0, 1)).astype(np.float64)
    mass = np.concatenate([[0.0], counts.cumsum()]) / counts.sum()
    return min(_candidates(statistics), key=lambda limit: _divergence(mass, limit))


def _divergence(mass: _Wide, limit: float) -> float:
    """Divergence on the cells between the edges of bins and levels, even within each of these."""
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


def _candidates(statistics: Statistics) -> list[float]:
    top = int(np.searchsorted(_EDGES[1:-1], statistics.peak))
    per_octave = BINS // round(np.log2(_EDGES[-1] / _EDGES[0]))
    return [float(_EDGES[edge + 1]) for edge in range(max(0, top - _OCTAVES * per_octave), top + 1)]


_METHODS: Mapping[str, Callable[[Statistics, _Wide], float]] = {
    "mse": _mse,
    "kl": _kl,
    "percentile": _percentile,
}
