"""Operations with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from yolodeploy_onnx.graph.lowering import Lowered, tensor
from yolodeploy_onnx.interface import attribute
from yolodeploy_torch.graph import BatchNorm, Conv, ConvTranspose, Linear, Unsupported

_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "HardSwish"})
_GATES = frozenset(
    {"Sigmoid", "HardSigmoid"}
)  # of which the product with what they read is an activation
_MAP = 4


def padding(
    node: NodeProto, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[int, int]:
    """The margins above and left, which must be those below and right."""
    how = attribute(node, "auto_pad", "NOTSET")
    if how == "VALID":
        return 0, 0
    if how == "NOTSET":
        pads = list(attribute(node, "pads", [0, 0, 0, 0]))
    elif how in ("SAME_UPPER", "SAME_LOWER"):
        zipped = zip(sizes, kernel, strides, strict=True)
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zipped]
        halves = [total // 2 for total in totals]
        pads = [*halves, *(t - h for t, h in zip(totals, halves, strict=True))]
    else:
        raise Unsupported(f"`auto_pad: {how}` is not known")
    if len(pads) != 4 or pads[:2] != pads[2:]:
        raise Unsupported(f"its margins {pads} differ from side to side")
    return int(pads[0]), int(pads[1])


def pair(node: NodeProto, name: str) -> tuple[int, int]:
    """An attribute of two whole numbers, 1 if it is left out."""
    first, second = attribute(node, name, [1, 1])
    return int(first), int(second)


def _weights(to: Lowered, node: NodeProto) -> tuple[NDArray[Any], NDArray[Any] | None]:
    weight, bias = to.numbers(node, 1), to.numbers(node, 2)
    if weight is None or weight.ndim != _MAP:
        raise Unsupported("its weights are no constant with four axes")
    if bias is None and len(node.input) > 2 and node.input[2]:
        raise Unsupported("its bias is no constant")
    return weight, bias


def _conv(to: Lowered, node: NodeProto) -> None:
    """A convolution; one with an activation behind it gets a normalisation that adds its bias.

    So it can be pruned by the normalisation's scale, and its statistics mended, like any other.
    """
    weight, bias = _weights(to, node)
    value = to.value(node.input[0])
    groups, kernel = int(attribute(node, "group", 1)), (weight.shape[2], weight.shape[3])
    strides, spread = pair(node, "strides"), pair(node, "dilations")
    reach = [d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True)]
    unit = bias is not None and _activated(to, node.output[0])
    name = to.name_of(node)
    made = Conv(
        name=name,
        inputs=(value,),
        channels=(weight.shape[1] * groups, weight.shape[0]),
        kernel=kernel,
        stride=strides,
        padding=padding(node, to.shape(value)[2:], reach, strides),
        dilation=spread,
        groups=groups,
        bias=bias is not None and not unit,
    )
    tensors = {"weight": tensor(weight)}
    if bias is not None and not unit:
        tensors["bias"] = tensor(bias)
    found = to.add(made, tensors)
    if unit and bias is not None:
        norm = f"{name.removesuffix('.conv')}.bn" if name.endswith(".conv") else f"{name}_bn"
        found = to.unnormalised(to.free(norm), found, tensor(bias))
    to.give(node, found)


def _activated(to: Lowered, value: str) -> bool:
    for reader in to.reading.get(value, ()):
        behind = to.reading.get(reader.output[0], ()) if reader.op_type in _GATES else ()
        gated = any(each.op_type == "Mul" and value in each.input for each in behind)
        if gated or reader.op_type in _ACTIVATIONS:
            return True
    return False


def _conv_transpose(to: Lowered, node: NodeProto) -> None:
    weight, bias = _weights(to, node)
    if attribute(node, "group", 1) != 1 or pair(node, "dilations") != (1, 1):
        raise Unsupported("it has groups or dilations")
    if any(attribute(node, "output_padding", [0])) or attribute(node, "output_shape"):
        raise Unsupported("it states the size of its output")
    value = to.value(node.input[0])
    made = ConvTranspose(
        name=to.name_of(node),
        inputs=(value,),
        channels=(weight.shape[0], weight.shape[1]),
        kernel=(weight.shape[2], weight.shape[3]),
        stride=pair(node, "strides"),
        padding=padding(node, (), (), ()),
        bias=bias is not None,
    )
    tensors = {"weight": tensor(weight)}
    to.give(node, to.add(made, tensors if bias is None else {**tensors, "bias": tensor(bias)}))


def _gemm(to: Lowered, node: NodeProto) -> None:
    weight, bias = to.numbers(node, 1), to.numbers(node, 2)
    if weight is None or attribute(node, "transA", 0):
        raise Unsupported("its weights are no constant")
    matrix = weight if attribute(node, "transB", 0) else weight.T
    matrix = matrix * attribute(node, "alpha", 1.0)
    given = (
        None
        if bias is None
        else np.broadcast_to(bias * attribute(node, "beta", 1.0), (len(matrix),))
    )
    linear(to, node, matrix, given)


def linear(to: Lowered, node: NodeProto, matrix: NDArray[Any], bias: NDArray[Any] | None) -> None:
    """Add a matrix [outputs, inputs] over the last axis."""
    outputs, inputs = matrix.shape
    made = Linear(
        name=to.name_of(node),
        inputs=(to.value(node.input[0]),),
        channels=(inputs, outputs),
        bias=bias is not None,
    )
    tensors = {"weight": tensor(matrix)}
    to.give(node, to.add(made, tensors if bias is None else {**tensors, "bias": tensor(bias)}))


def _batch_norm(to: Lowered, node: NodeProto) -> None:
    found = [to.numbers(node, place) for place in range(1, 5)]
    scale = found[0]
    if (
        scale is None
        or any(numbers is None for numbers in found)
        or attribute(node, "training_mode", 0)
    ):
        raise Unsupported("its statistics are no constants")
    names = ("weight", "bias", "running_mean", "running_var")
    made = BatchNorm(
        name=to.free(to.name_of(node)),
        inputs=(to.value(node.input[0]),),
        channels=len(scale),
        eps=float(attribute(node, "epsilon", 1e-5)),
    )
    pairs = zip(names, found, strict=True)
    to.give(node, to.add(made, {name: tensor(n) for name, n in pairs if n is not None}))


LOWERINGS = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
}
