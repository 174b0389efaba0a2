"""Rounding a convolution or a matrix to ncnn's int8 form: weights, scales, corrected bias.

ncnn rounds the input to 8 bits with one scale per layer, multiplies it by weights with one scale per
output channel, adds up in 32 bits and converts the sum back to float (src/layer/convolution.cpp,
`forward_int8`). The activations that follow and all sums of maps are computed in float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy_ncnn import bin_file
from yolodeploy_ncnn.bin_file import int8_block
from yolodeploy_ncnn.int8.calibrate import Statistics
from yolodeploy_ncnn.int8.clipping import LEVELS, Method, mean_error, threshold
from yolodeploy_ncnn.layers import MATRIX
from yolodeploy_ncnn.param_file import Layer

_PER_CHANNEL = 2
# The largest sum of an output channel's weights |q| that ncnn's Winograd form of 3x3 convolutions adds
# up without overflow: above it results are garbage, up to it they are exact (measured). ncnn's own
# tool cuts all of these weights to 6 bits instead.
SAFE_SUM = 29_356
_STEPS = 8192  # of the search for a smaller scale, by 0.1 % each: down to a 3,600th

_Floats = NDArray[np.float32]
_Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A float convolution, or a matrix as one of a single pixel: weights `[groups, out, in, taps]`, bias `[groups * out]` (or empty)."""

    layer: Layer
    weights: _Floats
    bias: _Floats

    @classmethod
    def of(cls, layer: Layer, weights: _Floats, bias: _Floats) -> Source:
        """A layer of the graph, with its weights and bias as they lie in the file."""
        groups = _groups(layer)
        outputs = layer.number(bin_file.OUT_CHANNELS) // groups
        return cls(layer, weights.reshape(groups, outputs, -1, taps(layer)), bias)


def params(layer: Layer) -> dict[int, str]:
    """The parameters by which ncnn knows that a layer computes in int8."""
    grouped = layer.type == "ConvolutionDepthWise"
    return {bin_file.INT8_SCALES: str(bin_file.PER_GROUP if grouped else _PER_CHANNEL)}


def calibrated(source: Source, found: Statistics, method: Method, *, correct: bool) -> bytes:
    """All blocks of the layer in int8 as the file holds them, by the statistics of what it reads."""
    energy = np.square(source.weights, dtype=np.float64).sum((1, 3)).ravel()
    limit = threshold(found, energy, method)
    return quantized(source, limit, found if correct else None)


def quantized(source: Source, limit: float, found: Statistics | None = None) -> bytes:
    """All blocks of the layer in int8, its input cut off at `limit`, its bias corrected by `found`.

    ncnn has a scale for each output channel, and in grouped convolutions for each group.
    """
    exact = source.weights
    grouped = source.layer.type == "ConvolutionDepthWise"
    rows = exact if grouped else exact[0]
    values, scales = round_weights(rows, SAFE_SUM if _winograd(source.layer) else None)
    parts = [int8_block(values)]
    if source.bias.size:
        spread = scales[:, None, None, None] if grouped else scales[:, None, None]
        rounded = (values.astype(np.float64) / spread).reshape(exact.shape)
        shift = _shift(source, rounded, found, limit) if found else 0
        parts.append((source.bias - shift).astype("<f4").tobytes())
    return b"".join([*parts, scales.tobytes(), np.array(LEVELS / limit, "<f4").tobytes()])


def round_weights(exact: _Floats, most: int | None) -> tuple[NDArray[np.int8], _Floats]:
    """Round weights `[out, ...]` to integers with a scale per output channel: weight * scale.

    A channel whose integers' magnitudes sum to more than `most` gets a smaller scale.
    """
    flat = exact.reshape(len(exact), -1).astype(np.float64)
    peak = np.abs(flat).max(1)
    scales = np.where(peak > 0, LEVELS / np.where(peak > 0, peak, 1), 1).astype("<f4")
    integers = np.rint(flat * scales[:, None])
    if most is not None:
        for row in np.flatnonzero(np.abs(integers).sum(1) > most):
            scales[row] = _lower(np.abs(flat[row]), scales[row], most)
            integers[row] = np.rint(flat[row] * scales[row])
    return integers.astype(np.int8).reshape(exact.shape), scales


def _lower(sizes: _Wide, scale: np.float32, most: int) -> np.float32:
    """The first scale of the series `scale`, 0.999 `scale`, ... with which the rounded sizes sum to no more than `most`.

    A sum never grows as the scale falls, so the series is halved again and again.
    """
    series = np.full(_STEPS, np.float32(0.999))
    series[0] = scale
    np.multiply.accumulate(series, out=series)
    low, high = 0, _STEPS - 1
    while low + 1 < high:
        middle = (low + high) // 2
        if np.rint(sizes * series[middle]).sum() > most:
            low = middle
        else:
            high = middle
    return np.float32(series[high])


def taps(layer: Layer) -> int:
    """The number of weights for each pair of an input and an output channel."""
    if layer.type == MATRIX:
        return 1
    width, height = _square(layer, 1, 11)
    return width * height


def stride(layer: Layer) -> tuple[int, int]:
    """The horizontal and the vertical stride of a convolution; a matrix has none."""
    if layer.type == MATRIX:
        return 1, 1
    return _square(layer, 3, 13, 1)


def _groups(layer: Layer) -> int:
    return layer.number(bin_file.GROUPS) if layer.type == "ConvolutionDepthWise" else 1


def _winograd(layer: Layer) -> bool:
    """Whether ncnn may compute the layer in Winograd form: 3x3 without stride, dilation or groups."""
    if layer.type != "Convolution":
        return False
    kernel, dilation = _square(layer, 1, 11), _square(layer, 2, 12, 1)
    return (kernel, dilation, stride(layer)) == ((3, 3), (1, 1), (1, 1))


def _square(layer: Layer, width: int, height: int, default: int | None = None) -> tuple[int, int]:
    """Two parameters by number; the second equals the first where it is left out."""
    first = layer.number(width, default)
    return first, layer.number(height, first)


def _shift(source: Source, rounded: _Wide, found: Statistics, limit: float) -> _Wide:
    """What quantization adds to the mean of each output channel, borders neglected.

    With weights W + dW and an input of mean x + e: dW x + (W + dW) e.
    """
    shape = (len(rounded), 1, -1)  # the input channels of each group
    inputs, errors = found.mean.reshape(shape), mean_error(found, limit).reshape(shape)
    error = rounded - source.weights
    shift: _Wide = (error.sum(3) * inputs).sum(2) + (rounded.sum(3) * errors).sum(2)
    return shift.ravel()
