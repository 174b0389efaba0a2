"""Convolutions in 8 bits: rounded weights, their scales, and biases with the mean error taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Wide = NDArray[np.float64]
_TINY = 1e-12
_BIAS_LIMIT = 1 << 30
_WIDTHS = np.linspace(1.0, 0.6, 17)  # of the range of weights that cuts off nothing


@dataclass(frozen=True)
class Rounded:
    """Weights `integers * scales`: int8 [outputs, inputs / groups, height, width] and float32 [outputs]."""

    integers: NDArray[np.int8]
    scales: _Floats

    @property
    def values(self) -> _Wide:
        """The weights as they are multiplied."""
        shape = (-1, *(1,) * (self.integers.ndim - 1))
        return self.integers.astype(np.float64) * self.scales.astype(np.float64).reshape(shape)


def rounded(weights: _Floats, levels: int, least: NDArray[np.float64] | float = _TINY) -> Rounded:
    """Round symmetrically with a scale per output channel, the greatest magnitude to `levels` steps."""
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    scales = np.maximum(np.abs(rows).max(1) / levels, least).astype(np.float32)
    return _with(weights, scales, levels)


def closest(weights: _Floats, levels: int) -> Rounded:
    """The same with the scales of least squared error: cutting off extremes brings the rest closer."""
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    peaks = np.maximum(np.abs(rows).max(1) / levels, _TINY)
    best, least = peaks.copy(), np.full(len(rows), np.inf)
    for width in _WIDTHS:
        scales = peaks * width
        integers = np.clip(np.rint(rows / scales[:, None]), -levels, levels)
        error = np.square(integers * scales[:, None] - rows).sum(1)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return _with(weights, best.astype(np.float32), levels)


def _with(weights: _Floats, scales: _Floats, levels: int) -> Rounded:
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    integers = np.clip(np.rint(rows / scales[:, None].astype(np.float64)), -levels, levels)
    return Rounded(integers.astype(np.int8).reshape(weights.shape), scales)


def least_scales(bias: _Wide, read: np.float32) -> _Wide:
    """The scales of weights below which a bias does not fit into 32 bits beside a map of scale `read`."""
    return np.maximum(np.abs(bias) / (float(read) * _BIAS_LIMIT), _TINY)


def shift(exact: _Floats, inside: Rounded, groups: int, means: tuple[_Wide, _Wide]) -> _Wide:
    """What rounding adds to the mean of each output channel [outputs], borders neglected.

    `means` are those of the float input and of the rounded one, by channel.
    """
    given, got = (mean.reshape(groups, 1, -1) for mean in means)

    def response(weights: NDArray[np.floating], mean: _Wide) -> _Wide:
        taps = weights.sum((2, 3), dtype=np.float64)
        return np.asarray((taps.reshape(groups, -1, taps.shape[1]) * mean).sum(2).ravel())

    return response(inside.values, got) - response(exact, given)
