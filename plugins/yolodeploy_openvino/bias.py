"""Correcting the mean error of quantized convolutions.

Rounding weights and inputs shifts the mean of a convolution's output, and shifts add up over the
layers. With the mean of its float input E[x] and of the rounded input E[Q(x)] per channel, the
shift of an output channel is the sum over input channels and taps of W E[x] - Q(W) E[Q(x)],
which the bias takes back (bias correction of Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, with measured means and the rounding of inputs added).
NNCF's fast correction puts Q(E[x]) for E[Q(x)], which ignores what rounding and clipping do to a
distribution: docs/decisions/011 has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino import layers
from yolodeploy_openvino.toolchain import openvino

Means = tuple[NDArray[np.float64], NDArray[np.float64]]


def correct(
    floats: Mapping[str, Any],
    quantized: Mapping[str, Any],
    parameters: list[Any],
    images: Iterable[NDArray[np.float32]],
    threads: int,
) -> None:
    """Correct the biases of the quantized convolutions in place.

    `floats` and `quantized` are the convolutions of both models by layer name, `parameters` the
    inputs of the float model. A convolution without a bias stays as it is.
    """
    chosen = [name for name, node in quantized.items() if layers.form(node) == "int8"]
    means = _means(floats, quantized, chosen, parameters, images, threads)
    for name, (exact, rounded) in means.items():
        old = layers.bias(quantized[name])
        if old is not None:
            shift = _taps(floats[name]) @ exact - _taps(quantized[name]) @ rounded
            layers.set_bias(quantized[name], (old + shift.reshape(old.shape)).astype(np.float32))


def _taps(convolution: Any) -> NDArray[np.float64]:
    """Weights `[out, in]`, summed over the taps of the kernel."""
    total: NDArray[np.float64] = layers.weights(convolution).sum((2, 3), dtype=np.float64)
    return total


def _means(
    floats: Mapping[str, Any],
    quantized: Mapping[str, Any],
    names: list[str],
    parameters: list[Any],
    images: Iterable[NDArray[np.float32]],
    threads: int,
) -> dict[str, Means]:
    """Mean of each convolution's input per channel, as it is and rounded, over all images."""
    pairs = [_observed(floats[name], quantized[name]) for name in names]
    request = _request([port for pair in pairs for port in pair], parameters, threads)
    totals: list[Any] = [0.0] * (2 * len(names))
    count = 0
    for image in images:
        request.infer([image], share_inputs=True)
        for port, total in enumerate(totals):
            totals[port] = total + request.get_output_tensor(port).data.astype(np.float64)
        count += 1
    rows = [total / count for total in totals]
    return {name: (rows[2 * n], rows[2 * n + 1]) for n, name in enumerate(names)}


def _observed(convolution: Any, quantized: Any) -> tuple[Any, Any]:
    """Means of a float convolution's input per channel, as it is and rounded as in `quantized`."""
    given = convolution.input(0).get_source_output()
    limits = layers.input_range(quantized)
    assert limits is not None  # noqa: S101 - an int8 convolution has one
    both = (given, layers.rounded(given, limits).output(0))
    ops = openvino().opset13
    over = ops.constant([0, 2, 3])
    return tuple(ops.reduce_mean(output, over, False).output(0) for output in both)


def _request(outputs: list[Any], parameters: list[Any], threads: int) -> Any:
    ov = openvino()
    model = ov.Model([ov.opset13.result(output) for output in outputs], parameters)
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return ov.Core().compile_model(model, "CPU", config).create_infer_request()
