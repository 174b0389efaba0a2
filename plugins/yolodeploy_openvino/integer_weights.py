"""Storing the weights of a convolution as integers of 8 or 4 bits.

The integers reach the convolution through Convert, Subtract (zero point), Multiply (scale) and Reshape
(groups): the form that OpenVINO's plugins recognise as compressed weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino.graph import sources
from yolodeploy_openvino.layers import weights
from yolodeploy_openvino.toolchain import openvino

_WIDTHS = np.linspace(1.0, 0.6, 17, dtype=np.float32)  # of the range that clips nothing
_SIDE_TYPES = (np.uint8, np.float16)
_SMALLEST = np.finfo(np.float16).tiny  # of an fp16 number with full precision


@dataclass(frozen=True)
class Affine:
    """Weights `(integers - zeros) * scales`: integers `[out, groups, size]`, the rest `[..., 1]`."""

    integers: NDArray[np.uint8]
    zeros: NDArray[np.uint8]
    scales: NDArray[np.float16]


def affine(rows: NDArray[np.float32], bits: int) -> Affine:
    """Encode each group of `[out, groups, size]` with the scale of least squared error.

    The range of a group, extended to 0, is tried at several fractions of its width: clipping the
    extremes brings the other values closer.
    """
    top = 2**bits - 1
    low = np.minimum(rows.min(2, keepdims=True), 0)
    high = np.maximum(rows.max(2, keepdims=True), 0)
    least = np.full(low.shape, np.inf, np.float32)
    best = Affine(np.zeros(rows.shape, np.uint8), *(np.zeros(low.shape, t) for t in _SIDE_TYPES))
    for width in _WIDTHS:
        scales = np.maximum((high - low) * width / top, _SMALLEST).astype(np.float16)
        zeros = np.clip(np.rint(-low * width / scales), 0, top)
        integers = np.clip(np.rint(rows / scales.astype(np.float32)) + zeros, 0, top)
        error = (((integers - zeros) * scales - rows) ** 2).sum(2, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        best = Affine(
            np.where(better, integers, best.integers).astype(np.uint8),
            np.where(better, zeros, best.zeros).astype(np.uint8),
            np.where(better, scales, best.scales),
        )
    return best


def bits_of(convolution: Any, bits: int, group: int) -> int:
    """The bits for a convolution: 8 where `group` does not divide the weights of a channel."""
    return 8 if math.prod(convolution.input(1).get_shape()[1:]) % group else bits


def compress(convolution: Any, bits: int, group: int) -> None:
    """Store the weights of a convolution as integers, with 4 bits a scale per `group` weights."""
    ov = openvino()
    ops = ov.opset13
    exact = weights(convolution)
    bits = bits_of(convolution, bits, group)
    size = exact[0].size if bits == 8 else group
    encoded = affine(exact.reshape(len(exact), -1, size), bits)
    stored = {8: ov.Type.u8, 4: ov.Type.u4}[bits]
    integers, zeros = (
        ops.convert(ops.constant(values, dtype=stored), "f32")
        for values in (encoded.integers, encoded.zeros)
    )
    scales = ops.convert(ops.constant(encoded.scales), "f32")
    expanded = ops.multiply(ops.subtract(integers, zeros), scales)
    node = ops.reshape(expanded, list(exact.shape), special_zero=False)
    node.set_friendly_name(sources(convolution)[1].get_friendly_name())
    convolution.input(1).replace_source_output(node.output(0))
