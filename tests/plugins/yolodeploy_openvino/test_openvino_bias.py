"""The mean error of a layer in 8 bits is taken out of its bias, whatever kind of layer it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import yolodeploy_openvino as backend

PROBLEM = backend.problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))
SCALE = 0.07
Floats = NDArray[np.float32]


def _transposed(ops: Any, value: Any, weights: Any) -> Any:
    return ops.convolution_backprop_data(value, weights, [2, 2], pads_begin=[0, 0], pads_end=[0, 0])


def _matrix(ops: Any, value: Any, weights: Any) -> Any:
    return ops.matmul(ops.reduce_mean(value, [2, 3], False), weights, False, True)


def _convolution(ops: Any, value: Any, weights: Any) -> Any:
    return ops.convolution(value, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def built(make: Any, weights: Any, shape: list[int]) -> tuple[Any, Any]:
    """A model of one layer with a bias of 0, and the layer; `weights` are its floats, or what expands them."""
    from yolodeploy_openvino.toolchain import openvino

    ov = openvino()
    ops = ov.opset13
    image = ops.parameter([1, 6, 8, 8], np.float32)
    layer = make(ops, image, weights(ops))
    total = ops.add(layer, ops.constant(np.zeros(shape, np.float32)))
    return ov.Model([ops.result(total)], [image]), layer


@pytest.mark.parametrize(
    ("make", "size"),
    [(_convolution, (4, 6, 1, 1)), (_transposed, (6, 4, 2, 2)), (_matrix, (4, 6))],
)
def test_the_mean_error_is_taken_out(make: Callable[..., Any], size: tuple[int, ...]) -> None:
    from yolodeploy_openvino.int8.bias_correction import correct
    from yolodeploy_openvino.toolchain import openvino

    rng = np.random.default_rng(0)
    levels = rng.integers(-9, 10, size).astype(np.int8)
    exact = (levels + rng.uniform(0, 0.5, size)).astype(np.float32) * np.float32(SCALE)
    images = [rng.uniform(0, 1, (1, 6, 8, 8)).astype(np.float32) for _ in range(3)]
    limits = [np.float32(limit) for limit in (0, 0.9)]  # some values are cut off

    def rounding(ops: Any, value: Any, weights: Any) -> Any:
        ends = [ops.constant(limit) for limit in limits]
        if make is not _matrix:
            return make(ops, ops.fake_quantize(value, *ends, *ends, 16), weights)
        mean = ops.reduce_mean(value, [2, 3], False)
        return ops.matmul(ops.fake_quantize(mean, *ends, *ends, 16), weights, False, True)

    def stored(ops: Any) -> Any:
        return ops.multiply(
            ops.convert(ops.constant(levels), "f32"), ops.constant(np.float32(SCALE))
        )

    shape = [1, 4] if make is _matrix else [1, 4, 1, 1]
    model, layer = built(make, lambda ops: ops.constant(exact), shape)
    rounded, integer = built(rounding, stored, shape)
    run = [openvino().compile_model(each, "CPU") for each in (model, rounded)]
    before = _means(run, images)
    correct({"layer": layer}, {"layer": integer}, model.get_parameters(), images, 1)
    after = _means([run[0], openvino().compile_model(rounded, "CPU")], images)
    assert np.abs(before).max() > 0.05
    assert np.abs(after).max() < 0.1 * np.abs(before).max()


def _means(run: list[Any], images: list[Floats]) -> Floats:
    """By how much the mean of each output channel differs, the median over images."""
    both = [[each([image])[0].reshape(4, -1).mean(1) for image in images] for each in run]
    return np.median(np.array(both[1]) - np.array(both[0]), axis=0)
