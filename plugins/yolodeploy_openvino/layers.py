"""Reading and changing single convolutions of an IR: weights, bias, range of the input.

Stored weights reach a convolution directly or through operations that expand them: Convert, then for
integers an optional Subtract (zero point), Multiply (scale) and Reshape (groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino.graph import sources
from yolodeploy_openvino.toolchain import openvino

Floats = NDArray[np.float32]

# Operations that move values without changing them, so that ranges hold on both sides.
MOVING = frozenset(
    {"Concat", "Interpolate", "MaxPool", "Reshape", "Slice", "Split", "Transpose", "VariadicSplit"}
)
_STORED = {
    "f16": "fp16",
    "f32": "fp32",
    **dict.fromkeys(("i4", "u4"), "int4 weights"),
    **dict.fromkeys(("i8", "u8"), "int8 weights"),
}


def weights(convolution: Any) -> Floats:
    """The weights that a convolution computes with, expanded: `[out, in, height, width]`.

    Those of a grouped convolution are `[groups, out, in, height, width]`.
    """
    return _expanded(sources(convolution)[1]).astype(np.float32)


def bias(convolution: Any) -> Floats | None:
    """The bias `[1, out, 1, 1]` of a convolution, None if it has none."""
    port = _bias_port(convolution)
    return None if port is None else _expanded(_source(port)).astype(np.float32)


def set_bias(convolution: Any, values: Floats) -> None:
    """Replace the bias of a convolution that has one, stored in the type of the old one."""
    ops = openvino().opset13
    port = _bias_port(convolution)
    if _source(port).get_type_name() == "Convert":
        node = ops.convert(ops.constant(values.astype(np.float16)), "f32")
    else:
        node = ops.constant(values)
    port.replace_source_output(node.output(0))


def input_range(convolution: Any) -> tuple[float, float, int] | None:
    """The lowest and highest value and the number of levels of the input; None if it is float.

    Where maps of several ranges are concatenated, the range that spans them all.
    """
    ranges = []
    queue = [sources(convolution)[0]]
    while queue:
        node = queue.pop()
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            low, high = (float(sources(node)[port].data.ravel()[0]) for port in (1, 2))
            ranges.append((low, high, int(node.get_attributes()["levels"])))
        elif kind in MOVING:
            queue += sources(node) if kind == "Concat" else sources(node)[:1]
        else:
            return None
    lows, highs, levels = zip(*ranges, strict=True)
    return min(lows), max(highs), max(levels)


def rounded(output: Any, limits: tuple[float, float, int]) -> Any:
    """Round an output to evenly spaced levels between the limits."""
    ops = openvino().opset13
    low, high = (ops.constant(np.float32(limit)) for limit in limits[:2])
    return ops.fake_quantize(output, low, high, low, high, limits[2])


def copy_quantized(quantized: Any, convolution: Any) -> None:
    """Give a float convolution the weights, the bias and the rounded input of a quantized one."""
    limits = input_range(quantized)
    if limits is not None:
        port = convolution.input(0)
        port.replace_source_output(rounded(port.get_source_output(), limits).output(0))
    convolution.input(1).replace_source_output(quantized.input(1).get_source_output())
    corrected = bias(quantized)
    if corrected is not None:
        set_bias(convolution, corrected)


def form(convolution: Any) -> str:
    """How a convolution is stored and computed: "fp32", "fp16", "int8", "int8 weights", "int4 weights"."""
    node = sources(convolution)[1]
    while node.get_type_name() != "Constant":
        node = sources(node)[0]
    stored = node.get_element_type().get_type_name()
    if stored in ("i8", "u8") and input_range(convolution) is not None:
        return "int8"
    return _STORED.get(stored, str(stored))


def _expanded(node: Any) -> NDArray[Any]:
    kind = node.get_type_name()
    if kind == "Constant":
        return np.asarray(node.get_data(dtype=np.float32))
    values = _expanded(sources(node)[0])
    if kind == "Subtract":
        values = values - _expanded(sources(node)[1])
    elif kind == "Multiply":
        values = values * _expanded(sources(node)[1])
    return values.reshape(node.get_output_shape(0))  # Convert keeps the shape, Reshape gives one


def _bias_port(convolution: Any) -> Any:
    """The constant input of the Add behind a convolution, None without one."""
    users = list(convolution.output(0).get_target_inputs())
    if len(users) != 1 or users[0].get_node().get_type_name() != "Add":
        return None
    port = users[0].get_node().input(1 - users[0].get_index())
    return port if _source(port).get_type_name() in ("Constant", "Convert") else None


def _source(port: Any) -> Any:
    return port.get_source_output().get_node()
