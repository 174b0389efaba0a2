"""Ranges of activations: histograms filled image by image, and the best range for each.

A histogram's memory does not depend on the number of images: its reach doubles when a value falls
outside, and pairs of bins are merged. A method chooses the two ends of a range:

* `minmax` covers all values;
* `percentile` cuts off a share of the values at either end;
* `mse` minimizes the mean squared error of 8-bit rounding and clipping. Each channel counts with
  the energy of the weights that read it. In front of an activation function the error is measured
  behind it: SiLU flattens everything below -6, so no step needs to be spent there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy.errors import StepFailed

Method = Literal["mse", "percentile", "minmax"]
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_BINS = 1 << 13
_STEPS = 255
_LOWEST = -128
_SAMPLES = 1 << 16  # per value and image; more samples move no range by a step
_CUT = 1e-4  # of the values at each end, for `percentile`
_FRACTIONS = np.linspace(1.0, 0.1, 46)
_ROUNDS = 2


@dataclass(frozen=True)
class Grid:
    """The numbers that 8 bits stand for: scale * (q - zero) for q in -128..127."""

    scale: float
    zero: int

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest number of the grid, clipped to its ends."""
        steps = np.round(values / self.scale) + self.zero
        return (steps.clip(_LOWEST, _LOWEST + _STEPS) - self.zero) * self.scale


def grid(low: float, high: float, *, half: bool) -> Grid:
    """The grid from `low` to `high` that contains 0 exactly; with `half`, its scale is an fp16 number."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _STEPS
    if half:
        scale = float(np.float16(scale))
    if not scale:
        return Grid(1.0, 0)
    return Grid(scale, int(np.clip(round(_LOWEST - low / scale), _LOWEST, _LOWEST + _STEPS)))


def silu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The activation function x / (1 + exp(-x))."""
    result: NDArray[np.float64] = values / (1 + np.exp(-values.clip(-700)))
    return result


class Histogram:
    """The values of an activation over all images: bins of equal width, extremes, channel means.

    `importance` weights the channels (the second axis).
    """

    def __init__(self, importance: NDArray[np.float64]) -> None:
        self._importance = torch.from_numpy(importance)
        self._sums: NDArray[np.float64] = np.zeros(len(importance))
        self._images = 0
        self._counts = np.zeros(_BINS)
        self._reach = 2.0**-10
        self._known = False
        self.low = 0.0
        self.high = 0.0

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean of each channel."""
        return self._sums / max(self._images, 1)

    def add(self, value: Tensor) -> None:
        """Add a value `[1, channels, height, width]`."""
        low, high = (float(extreme) for extreme in torch.aminmax(value))
        if not math.isfinite(high - low):
            raise StepFailed(
                "an activation is not finite on a calibration image. Export with `precision: fp32`, "
                "which holds larger values, or calibrate on other images."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._sums += value.double().mean((0, 2, 3)).numpy()
        self._images += 1
        while max(-low, high) >= self._reach:
            self._double()
        stride = max(1, round((value.numel() / _SAMPLES) ** 0.5))
        sample = value[:, :, ::stride, ::stride]
        width = 2 * self._reach / _BINS
        bins = ((sample + self._reach) / width).long().clamp_(0, _BINS - 1).reshape(-1)
        weights = self._importance.view(1, -1, 1, 1).expand(sample.shape).reshape(-1)
        self._counts += torch.bincount(bins, weights, _BINS).numpy()

    def fix(self, low: float, high: float) -> None:
        """Widen the range to these known extremes, which every method then uses."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._known = True

    def _double(self) -> None:
        pairs = self._counts.reshape(-1, 2).sum(1)
        self._counts = np.zeros(_BINS)
        self._counts[_BINS // 4 : -_BINS // 4] = pairs
        self._reach *= 2

    def choose(self, method: Method, curve: Curve | None, *, half: bool) -> Grid:
        """Choose the grid with the least error in the values, or in `curve` of them if it is given."""
        if method == "minmax" or self._known or not self._counts.any():
            return grid(self.low, self.high, half=half)
        filled = np.flatnonzero(self._counts)
        centres = ((filled + 0.5) * (2 * self._reach / _BINS) - self._reach).astype(np.float64)
        weights: NDArray[np.float64] = self._counts[filled]
        if method == "percentile":
            share = np.cumsum(weights) / weights.sum()
            ends = np.searchsorted(share, [_CUT, 1 - _CUT])
            return grid(*centres[ends], half=half)
        return self._least(centres, weights, curve or (lambda values: values), half=half)

    def _least(
        self,
        centres: NDArray[np.float64],
        weights: NDArray[np.float64],
        curve: Curve,
        *,
        half: bool,
    ) -> Grid:
        """Move one end, then the other, to where the squared error is least."""
        exact = curve(centres)

        def error(ends: tuple[float, float]) -> float:
            off = curve(grid(*ends, half=half).rounded(centres)) - exact
            return float(weights @ (off * off))

        low, high = self.low, self.high
        for _ in range(_ROUNDS):
            high = min(((low, self.high * f) for f in _FRACTIONS), key=error)[1]
            low = min(((self.low * f, high) for f in _FRACTIONS), key=error)[0]
        return grid(low, high, half=half)
