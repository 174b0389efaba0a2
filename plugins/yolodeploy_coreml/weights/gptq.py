"""Rounding a layer's weights so that its output changes least: error-compensated compression.

The change of a convolution's output is E C E^T per output channel, with E the change of its weights
and C the covariance of its inputs. Weights are rounded one column (input) after the other, and the
error of each is carried over to the columns not yet rounded: GPTQ (E. Frantar and others, 2022),
which is Optimal Brain Surgeon (B. Hassibi, D. Stork, 1993) in a fixed order. Rounds of coordinate
descent follow, in which each column is rounded again, given all others. The mean of the inputs
goes into the bias, which is why C is the covariance and not the second moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Rounds a column: its index and the values wanted [out channels] -> the values allowed.
Snap = Callable[[int, Tensor], Tensor]

_DAMPING = 0.01  # of the mean variance, as in GPTQ: keeps the error of dead inputs finite
_LEAST_GAIN = 0.05  # of the mean: a few images cannot prove that a channel never matters
_BLOCK = 64
_ROUNDS = 2  # further rounds change the error by less than two per cent


@dataclass(frozen=True)
class Moments:
    """Statistics of a convolution over the calibration images.

    `second` `[columns, columns]` and `mean` `[columns]` are moments of its inputs, a column for
    each weight of one output channel; `gain` `[out channels]` is the noise that a unit of squared
    error of an output channel adds to the model's output. Of a grouped convolution, `second` is
    `[groups, columns, columns]` and `mean` `[groups, columns]`.
    """

    second: Tensor
    mean: Tensor
    gain: Tensor


class Rounding:
    """One layer's weights `[out channels, columns]` and the cost of changing them."""

    def __init__(self, weight: Tensor, moments: Moments) -> None:
        self.weight = weight
        self.moments = moments
        covariance = moments.second - torch.outer(moments.mean, moments.mean)
        diagonal = covariance.diagonal()
        covariance = covariance + torch.eye(len(diagonal)) * (_DAMPING * diagonal.mean() + 1e-10)
        self._covariance = covariance
        self._order = torch.argsort(covariance.diagonal(), descending=True, stable=True)
        ordered = covariance[self._order][:, self._order].double()
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
        self._factor = torch.linalg.cholesky(inverse, upper=True).float()

    def importance(self) -> Tensor:
        """What a unit of squared error of each weight costs if all others stay as they are.

        Relative, with a mean of about 1 even for a layer that shows in no detection at all.
        """
        gain, variance = self.moments.gain, self._covariance.diagonal()
        mean = float(gain.mean())
        relative = gain / mean if mean else torch.ones_like(gain)
        return torch.outer(relative.clamp(min=_LEAST_GAIN), variance / variance.mean())

    def noise(self, rounded: Tensor) -> float:
        """Noise that the rounded weights, with the bias corrected, add to the model's output."""
        error = self.weight - rounded
        return float((((error @ self._covariance) * error).sum(1) * self.moments.gain).sum())

    def shift(self, rounded: Tensor) -> Tensor:
        """What to add to the bias so that the mean of the output stays the same."""
        return (self.weight - rounded) @ self.moments.mean

    def solve(self, snap: Snap) -> Tensor:
        """Round all weights, each with the errors of the others compensated."""
        return self._descend(self._sweep(snap), snap)

    def _sweep(self, snap: Snap) -> Tensor:
        left = self.weight[:, self._order].clone()
        rounded = torch.zeros_like(left)
        columns = self._order.tolist()
        for start in range(0, len(columns), _BLOCK):
            end = min(start + _BLOCK, len(columns))
            block, factor = left[:, start:end], self._factor[start:end, start:end]
            errors = torch.zeros_like(block)
            for j, column in enumerate(columns[start:end]):
                rounded[:, start + j] = snap(column, block[:, j])
                errors[:, j] = (block[:, j] - rounded[:, start + j]) / factor[j, j]
                block[:, j:] -= torch.outer(errors[:, j], factor[j, j:])
            left[:, end:] -= errors @ self._factor[start:end, end:]
        result = torch.empty_like(rounded)
        result[:, self._order] = rounded
        return result

    def _descend(self, rounded: Tensor, snap: Snap) -> Tensor:
        slope = (self.weight - rounded) @ self._covariance
        for _ in range(_ROUNDS):
            for column in self._order.tolist():
                row = self._covariance[column]
                better = snap(column, rounded[:, column] + slope[:, column] / row[column])
                change = better - rounded[:, column]
                moved = change.nonzero()[:, 0]
                slope.index_add_(0, moved, torch.outer(change[moved], row), alpha=-1)
                rounded[:, column] = better
        return rounded


class GroupedRounding(Rounding):
    """The same for a grouped convolution, whose groups of output channels read other inputs each."""

    def __init__(self, weight: Tensor, moments: Moments) -> None:
        self.weight = weight
        self.moments = moments
        self._groups = len(moments.second)
        covariance = moments.second - moments.mean[:, :, None] * moments.mean[:, None]
        level = covariance.diagonal(dim1=1, dim2=2).mean(1)
        damping = (_DAMPING * level + 1e-10)[:, None, None]
        self._covariance = covariance + torch.eye(covariance.shape[1]) * damping
        relative = self._covariance / (level + 1e-10)[:, None, None]
        # One order for all groups, so that a column is rounded in all of them at once.
        spread = relative.diagonal(dim1=1, dim2=2).mean(0)
        self._order = torch.argsort(spread, descending=True, stable=True)
        ordered = self._covariance[:, self._order][:, :, self._order].double()
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
        self._factor = torch.linalg.cholesky(inverse, upper=True).float()

    def importance(self) -> Tensor:
        """As for other layers, `[out channels, columns]`."""
        gain, variance = self.moments.gain, self._covariance.diagonal(dim1=1, dim2=2)
        mean = float(gain.mean())
        relative = gain / mean if mean else torch.ones_like(gain)
        return (
            self._split(relative.clamp(min=_LEAST_GAIN)[:, None])
            .mul((variance / variance.mean())[:, None])
            .reshape(self.weight.shape)
        )

    def noise(self, rounded: Tensor) -> float:
        """As for other layers."""
        error = self._split(self.weight - rounded)
        spread = ((error @ self._covariance) * error).sum(2).reshape(-1)
        return float((spread * self.moments.gain).sum())

    def shift(self, rounded: Tensor) -> Tensor:
        """As for other layers."""
        return (self._split(self.weight - rounded) @ self.moments.mean[..., None]).reshape(-1)

    def _split(self, rows: Tensor) -> Tensor:
        return rows.reshape(self._groups, -1, rows.shape[-1])

    def _sweep(self, snap: Snap) -> Tensor:
        left = self._split(self.weight[:, self._order].clone())
        result = torch.zeros_like(self.weight)
        for j, column in enumerate(self._order.tolist()):
            result[:, column] = snap(column, left[:, :, j].reshape(-1))
            error = left[:, :, j] - result[:, column].reshape(self._groups, -1)
            factor = self._factor[:, j, j:] / self._factor[:, j, j, None]
            left[:, :, j:] -= error[..., None] * factor[:, None]
        return result

    def _descend(self, rounded: Tensor, snap: Snap) -> Tensor:
        slope = self._split(self.weight - rounded) @ self._covariance
        for _ in range(_ROUNDS):
            for column in self._order.tolist():
                row = self._covariance[:, column]
                step = (slope[:, :, column] / row[:, column, None]).reshape(-1)
                better = snap(column, rounded[:, column] + step)
                change = (better - rounded[:, column]).reshape(self._groups, -1)
                slope -= change[..., None] * row[:, None]
                rounded[:, column] = better
        return rounded


def to_tables(tables: Tensor, channels: int) -> Snap:
    """Round to the nearest value of ascending tables `[groups, entries]`, one per run of channels."""
    groups = len(tables)
    borders = ((tables[:, 1:] + tables[:, :-1]) / 2).contiguous()

    def snap(_column: int, wanted: Tensor) -> Tensor:
        places = torch.searchsorted(
            borders, wanted.reshape(groups, channels // groups).contiguous()
        )
        return tables.gather(1, places).reshape(channels)

    return snap


def to_grid(scale: Tensor, zero: Tensor, bits: int) -> Snap:
    """Round to scale * (q - zero), q being signed integers; both `[out channels, columns]`."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def snap(column: int, wanted: Tensor) -> Tensor:
        steps = (wanted / scale[:, column]).round() + zero[:, column]
        return scale[:, column] * (steps.clamp(low, high) - zero[:, column])

    return snap
