"""Reading and rewriting the convolutions of an IR: weights, bias, range of the input.

Stored weights reach a convolution as they are or through a chain that expands them: Convert,
then for integers an optional Subtract (zero point), Multiply (scale) and Reshape (groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino.graph import Structure, feeding
from yolodeploy_openvino.toolchain import openvino

Floats = NDArray[np.float32]

# Operations that move values without changing them, so that a range holds on both sides.
MOVING = frozenset({"Concat", "Interpolate", "MaxPool", "VariadicSplit"})
_STORED = {
    "f16": "fp16",
    "f32": "fp32",
    "i4": "int4 weights",
    "i8": "int8 weights",
    "u4": "int4 weights",
    "u8": "int8 weights",
}


def convolutions(model: Any, found: Structure) -> dict[str, Any]:
    """The convolutions of a model by layer name, in order of execution."""
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    return {
        layer: nodes[found.operations[layer]]
        for layer, part in found.parts.items()
        if part != "decode"
    }


def weights(convolution: Any) -> Floats:
    """The weights that it computes with, `[out, in, height, width]`, expanded."""
    return _expanded(feeding(convolution, 1)).astype(np.float32)


def set_weights(convolution: Any, node: Any) -> None:
    """Give it other weights: a node that expands to the same shape."""
    convolution.input(1).replace_source_output(node.output(0))


def bias(convolution: Any) -> Floats | None:
    """The bias `[1, out, 1, 1]`, None if it has none."""
    port = _bias_port(convolution)
    if port is None:
        return None
    return _expanded(port.get_source_output().get_node()).astype(np.float32)


def set_bias(convolution: Any, values: Floats) -> None:
    """Give a convolution that has a bias another one, stored in the type of the old one."""
    ops = openvino().opset13
    port = _bias_port(convolution)
    node = port.get_source_output().get_node()
    if node.get_type_name() == "Convert":
        half = ops.constant(values.astype(np.float16))
        port.replace_source_output(ops.convert(half, "f32").output(0))
    else:
        port.replace_source_output(ops.constant(values).output(0))


def input_range(convolution: Any) -> tuple[float, float, int] | None:
    """Lowest and highest value and number of levels of its input; None if that is float.

    Where maps of several ranges are concatenated, the widest range.
    """
    ranges = []
    queue = [feeding(convolution, 0)]
    while queue:
        node = queue.pop()
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            low, high = (float(feeding(node, port).data.ravel()[0]) for port in (1, 2))
            ranges.append((low, high, int(node.get_attributes()["levels"])))
        elif kind in MOVING:
            maps = node.get_input_size() if kind == "Concat" else 1
            queue += [feeding(node, port) for port in range(maps)]
        else:
            return None
    lows, highs, levels = zip(*ranges, strict=True)
    return min(lows), max(highs), max(levels)


def rounded(output: Any, limits: tuple[float, float, int]) -> Any:
    """The output rounded to evenly spaced levels between the limits."""
    ops = openvino().opset13
    low, high = (ops.constant(np.float32(limit)) for limit in limits[:2])
    return ops.fake_quantize(output, low, high, low, high, limits[2])


def exchange(convolution: Any, quantized: Any) -> None:
    """Give a float convolution the weights, the bias and the rounded input of a quantized one."""
    limits = input_range(quantized)
    if limits is not None:
        port = convolution.input(0)
        port.replace_source_output(rounded(port.get_source_output(), limits).output(0))
    set_weights(convolution, feeding(quantized, 1))
    corrected = bias(quantized)
    if corrected is not None:
        set_bias(convolution, corrected)


def form(convolution: Any) -> str:
    """What it is stored and computed as: "fp32", "fp16", "int8", "int8 weights", "int4 weights"."""
    node = feeding(convolution, 1)
    while node.get_type_name() != "Constant":
        node = feeding(node, 0)
    stored = node.get_element_type().get_type_name()
    if stored in ("i8", "u8") and input_range(convolution) is not None:
        return "int8"
    return _STORED.get(stored, str(stored))


def _expanded(node: Any) -> NDArray[Any]:
    kind = node.get_type_name()
    if kind == "Constant":
        return np.asarray(node.get_data(dtype=np.float32))
    values = _expanded(feeding(node, 0))
    if kind == "Subtract":
        values = values - _expanded(feeding(node, 1))
    elif kind == "Multiply":
        values = values * _expanded(feeding(node, 1))
    return values.reshape(node.get_output_shape(0))  # Convert keeps the shape, Reshape gives one


def _bias_port(convolution: Any) -> Any:
    """The input of the Add behind the convolution that takes a constant, None without one."""
    users = list(convolution.output(0).get_target_inputs())
    if len(users) != 1 or users[0].get_node().get_type_name() != "Add":
        return None
    port = users[0].get_node().input(1 - users[0].get_index())
    kinds = ("Constant", "Convert")
    return port if port.get_source_output().get_node().get_type_name() in kinds else None
