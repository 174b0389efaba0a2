"""Operations on every number, and products of matrices."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from onnx import NodeProto

from yolodeploy_onnx.graph.lowering import Lowered
from yolodeploy_onnx.graph.operations.convolutions import linear
from yolodeploy_onnx.interface import attribute
from yolodeploy_torch.graph import Activation, Arithmetic, Function, MatMul, Softmax, Unsupported

_Kind = Literal["add", "sub", "mul", "div"]
_KINDS: dict[str, _Kind] = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_SOFTMAX_OF_AN_AXIS = 13  # the opset before which it was over all axes from one on
_TURNED = ("add", "mul")
_SIXTH, _HALF = 1 / 6, 0.5


def _pair(to: Lowered, node: NodeProto) -> None:
    """Two values, or a value and a number; a value times its own sigmoid is an activation."""
    if node.op_type == "Mul" and _activation(to, node):
        return
    kind = _KINDS[node.op_type]
    numbers = [to.numbers(node, place) for place in (0, 1)]
    for place, value in enumerate(numbers):
        turned = place == 0 and kind not in _TURNED
        if value is None or value.size > 1 or turned:
            continue
        if value.ndim <= len(_shape(to, node, 1 - place)):
            number, inputs = float(value.ravel()[0]), (to.value(node.input[1 - place]),)
            made = Arithmetic(name=to.name_of(node), inputs=inputs, kind=kind, number=number)
            to.give(node, to.add(made))
            return
    axes = max(len(_shape(to, node, place)) for place in (0, 1))
    first, second = (_with_axes(to, node, place, axes) for place in (0, 1))
    to.give(node, to.add(Arithmetic(name=to.name_of(node), inputs=(first, second), kind=kind)))


def _shape(to: Lowered, node: NodeProto, place: int) -> tuple[int, ...]:
    numbers = to.numbers(node, place)
    return tuple(numbers.shape) if numbers is not None else to.shape(to.value(node.input[place]))


def _with_axes(to: Lowered, node: NodeProto, place: int, axes: int) -> str:
    """What a node reads, with axes of 1 in front so that it has so many."""
    numbers = to.numbers(node, place)
    if numbers is not None:
        return to.constant(node.input[place], numbers, axes)
    value = to.value(node.input[place])
    shape = to.shape(value)
    if len(shape) == axes:
        return value
    name = f"{to.name_of(node)}.axes"
    return to.reshaped(name, value, (1,) * (axes - len(shape)) + shape)


def _activation(to: Lowered, node: NodeProto) -> bool:
    """Whether a product is SiLU or hard swish; then it is added."""
    for place in (0, 1):
        maker = to.makers.get(node.input[1 - place])
        if maker is None or maker.input[0] != node.input[place]:
            continue
        hard = maker.op_type == "HardSigmoid" and (
            np.isclose(attribute(maker, "alpha", 0.2), _SIXTH)
            and attribute(maker, "beta", 0.5) == _HALF
        )
        if maker.op_type == "Sigmoid" or hard:
            _activate(to, node, "hardswish" if hard else "silu", node.input[place])
            return True
    return False


def _activate(
    to: Lowered,
    node: NodeProto,
    kind: Literal["silu", "relu", "leaky_relu", "hardswish"],
    value: str,
    slope: float = 0.0,
) -> None:
    made = Activation(name=to.name_of(node), inputs=(to.value(value),), kind=kind, slope=slope)
    to.give(node, to.add(made))


def _relu(to: Lowered, node: NodeProto) -> None:
    _activate(to, node, "relu", node.input[0])


def _leaky(to: Lowered, node: NodeProto) -> None:
    slope = float(attribute(node, "alpha", 0.01))
    _activate(to, node, "leaky_relu", node.input[0], slope)


def _hard_swish(to: Lowered, node: NodeProto) -> None:
    _activate(to, node, "hardswish", node.input[0])


def _hard_sigmoid(to: Lowered, node: NodeProto) -> None:
    """Only as part of hard swish, which the product behind it becomes."""
    if any(reader.op_type != "Mul" for reader in to.reading.get(node.output[0], ())):
        raise Unsupported("it is no primitive")


def _function(to: Lowered, node: NodeProto) -> None:
    kind = node.op_type.lower()
    made = {"name": to.name_of(node), "inputs": (to.value(node.input[0]),), "kind": kind}
    to.give(node, to.add(Function.model_validate(made)))


def _softmax(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    shape = to.shape(value)
    axis = to.axis(node, -1 if to.model.opset >= _SOFTMAX_OF_AN_AXIS else 1, len(shape))
    if to.model.opset < _SOFTMAX_OF_AN_AXIS and math.prod(shape[axis + 1 :]) > 1:
        raise Unsupported("before opset 13 it is over several axes together")
    to.give(node, to.add(Softmax(name=to.name_of(node), inputs=(value,), axis=axis)))


def _matmul(to: Lowered, node: NodeProto) -> None:
    matrix = to.numbers(node, 1)
    if matrix is not None and matrix.ndim == 2:
        linear(to, node, matrix.T, None)
        return
    inputs = to.value(node.input[0]), to.value(node.input[1])
    to.give(node, to.add(MatMul(name=to.name_of(node), inputs=inputs)))


def _power(to: Lowered, node: NodeProto) -> None:
    """The square, as the YOLOs with anchors compute sizes."""
    exponent = to.numbers(node, 1)
    if exponent is None or exponent.size != 1 or float(exponent.ravel()[0]) != 2:
        raise Unsupported("only squares are primitives")
    value = to.value(node.input[0])
    to.give(node, to.add(Arithmetic(name=to.name_of(node), inputs=(value, value), kind="mul")))


def _negative(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    made = Arithmetic(name=to.name_of(node), inputs=(value,), kind="mul", number=-1.0)
    to.give(node, to.add(made))


def _same(to: Lowered, node: NodeProto) -> None:
    """An operation that changes nothing here: the types of numbers are one."""
    to.give(node, to.value(node.input[0]))


LOWERINGS = {
    **dict.fromkeys(_KINDS, _pair),
    "Relu": _relu,
    "LeakyRelu": _leaky,
    "HardSwish": _hard_swish,
    "HardSigmoid": _hard_sigmoid,
    **dict.fromkeys(("Sigmoid", "Sin", "Cos", "Exp"), _function),
    "Softmax": _softmax,
    "MatMul": _matmul,
    "Pow": _power,
    "Neg": _negative,
    **dict.fromkeys(("Identity", "Cast", "Dropout"), _same),
}
