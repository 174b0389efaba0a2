"""Reading and changing single convolutions of an IR: weights, bias, range of the input.

Stored weights reach a convolution directly or through operations that expand them: Convert, then for
integers an optional Subtract (zero point), Multiply (scale) and Reshape (groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino.graph import CONVOLUTIONS, sources
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


def input_range(convolution: Any) -> tuple[Floats, Floats, int] | None:
    """The lowest and highest values and the number of levels of the input; None if it is float.

    The values are `[1]` or `[channels]`: NNCF rounds what a depthwise convolution reads by channel. Where maps
    are concatenated or moved on the way from the quantizer, the one range that spans all.
    """
    ranges = []
    given = sources(convolution)[0]
    queue = [given]
    while queue:
        node = queue.pop()
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            ranges.append((*ends(node), int(node.get_attributes()["levels"])))
        elif kind in MOVING:
            queue += sources(node) if kind == "Concat" else sources(node)[:1]
        else:
            return None
    lows, highs, levels = zip(*ranges, strict=True)
    if given.get_type_name() == "FakeQuantize":
        return lows[0], highs[0], levels[0]
    low, high = min(each.min() for each in lows), max(each.max() for each in highs)
    return np.array([low]), np.array([high]), max(levels)


def ends(quantizer: Any) -> tuple[Floats, Floats]:
    """The lowest and the highest values of a FakeQuantize, `[1]` or `[channels]`."""
    low, high = (np.asarray(sources(quantizer)[port].data).ravel() for port in (1, 2))
    return low, high


def set_ends(quantizer: Any, low: Any, high: Any) -> None:
    """Set the range of a FakeQuantize, the low ends moved so that 0 is one of the levels."""
    ops = openvino().opset13
    steps = int(quantizer.get_attributes()["levels"]) - 1
    for number, values in enumerate(2 * with_zero(low, high, steps), 1):  # of input, of output
        port = quantizer.input(number)
        old = port.get_source_output().get_node()
        shape = list(old.get_output_shape(0))
        filled = np.broadcast_to(values, int(np.prod(shape))).reshape(shape).astype(np.float32)
        constant = ops.constant(np.ascontiguousarray(filled))
        constant.set_friendly_name(old.get_friendly_name())
        port.replace_source_output(constant.output(0))


def with_zero(low: Any, high: Any, steps: int) -> tuple[Any, Any]:
    """The range with its low end moved so that 0 is one of the levels."""
    below = np.clip(np.rint(-low / (high - low) * steps), 0, steps - 1)
    return -below * high / (steps - below), high


def readers(quantizer: Any, through: frozenset[str]) -> set[str]:
    """Names of the convolutions that the values of a quantizer reach `through` such operations."""
    found: set[str] = set()
    queue, seen = [quantizer], {quantizer.get_friendly_name()}
    while queue:
        for output in queue.pop().outputs():
            for port in output.get_target_inputs():
                node = port.get_node()
                name, kind = node.get_friendly_name(), node.get_type_name()
                if kind in CONVOLUTIONS:
                    found.add(name)
                elif kind in through and name not in seen:
                    seen.add(name)
                    queue.append(node)
    return found


def rounded(output: Any, limits: tuple[Floats, Floats, int]) -> Any:
    """Round an output `[N, channels, height, width]` to evenly spaced levels between the limits."""
    ops = openvino().opset13
    shape = (1, -1, 1, 1) if limits[0].size > 1 else ()
    low, high = (ops.constant(limit.astype(np.float32).reshape(shape)) for limit in limits[:2])
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


def bias_source(convolution: Any) -> list[Any]:
    """The node that gives a convolution its bias, if it has one."""
    port = _bias_port(convolution)
    return [] if port is None else [_source(port)]


def _source(port: Any) -> Any:
    return port.get_source_output().get_node()
