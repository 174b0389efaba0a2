"""Correcting the mean error of quantized convolutions.

Rounding weights and inputs shifts the mean of a convolution's output, and shifts add up over the
layers. With the means per channel of its float input, E[x], and of the rounded input, E[Q(x)], the
shift of an output channel is the sum over input channels and taps of W E[x] - Q(W) E[Q(x)], which
is added to the bias (bias correction of Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, extended by measured means and the rounding of inputs).
The means are those of an image; of several images the median is taken: a rare image whose large values
are cut off has a shift of its own, which would spoil the others as a part of their mean.
NNCF's fast correction uses Q(E[x]) for E[Q(x)], which ignores what rounding and clipping do to a
distribution: docs/decisions/011 has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino import layers
from yolodeploy_openvino.int8.observe import observe
from yolodeploy_openvino.toolchain import openvino

_Wide = NDArray[np.float64]


def correct(
    floats: Mapping[str, Any],
    quantized: Mapping[str, Any],
    parameters: list[Any],
    images: Iterable[NDArray[np.float32]],
    threads: int,
) -> None:
    """Correct the biases of the quantized convolutions in place; one without a bias stays as it is.

    `floats` and `quantized` are the convolutions of both models by layer name, `parameters` the
    inputs of the float model.
    """
    chosen = [name for name, node in quantized.items() if layers.form(node) == "int8"]
    observed = [port for name in chosen for port in _observed(floats[name], quantized[name])]
    seen = observe(observed, parameters, images, threads)
    means = [[value.astype(np.float64) for value in values] for values in seen]
    for number, name in enumerate(chosen):
        old = layers.bias(quantized[name])
        if old is not None:
            shift = np.median(
                [
                    _response(floats[name], exact) - _response(quantized[name], rounded)
                    for exact, rounded in (of_image[2 * number :][:2] for of_image in means)
                ],
                0,
            )
            layers.set_bias(quantized[name], (old + shift.reshape(old.shape)).astype(np.float32))


def _response(layer: Any, means: _Wide) -> _Wide:
    """What a layer makes `[out]` of an even input `[in]`, bias and borders left out."""
    weights = layers.weights(layer).astype(np.float64)
    match layer.get_type_name():
        case "MatMul":
            turned = layer.get_attributes()["transpose_b"]
            return np.asarray((weights if turned else weights.T) @ means)
        case (
            "ConvolutionBackpropData"
        ):  # `[in, out, height, width]`; a pixel gets a tap of every stride
            taps = weights.sum((-2, -1)) / math.prod(layer.get_attributes()["strides"])
            return np.asarray(taps.T @ means)
    taps = weights.sum((-2, -1))
    if taps.ndim == 2:
        return np.asarray(taps @ means)
    return np.asarray((taps @ means.reshape(len(taps), -1, 1)).ravel())  # `[groups, out, in]`


def _observed(layer: Any, quantized: Any) -> tuple[Any, Any]:
    """Outputs with the mean per channel of a float layer's input, and of that rounded."""
    given = layer.input(0).get_source_output()
    limits = layers.input_range(quantized)
    assert limits is not None  # noqa: S101 - an int8 layer has one
    both = (given, layers.rounded(given, limits).output(0))
    ops, axes = openvino().opset13, len(given.get_partial_shape())
    channels = axes - 1 if layer.get_type_name() == "MatMul" else 1
    over = ops.constant([axis for axis in range(axes) if axis != channels])
    return tuple(ops.reduce_mean(output, over, False).output(0) for output in both)
