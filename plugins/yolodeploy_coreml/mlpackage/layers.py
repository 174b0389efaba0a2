"""The layers of a saved program that have weights: names in the checkpoint, parts, and how weights are stored.

Names and parts come from `layers.json` beside the package. Which layer is which tell the names of
the weights: those of the checkpoint's modules, with underscores for dots. Compression keeps them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolodeploy.compress import Part
from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage.package import data_types, inner

_WEIGHT = re.compile("_weight")
_DFL: Part = "dfl"
CLASSIFY = "classify"  # pairs probabilities with the names of the classes
TRANSPOSED, MATRIX = "conv_transpose", "linear"
WEIGHTED = frozenset({"conv", TRANSPOSED, MATRIX})


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix: its module's name in the checkpoint, and its part of the model.

    `output`, `weight` and `bias` name values of the program: its result and its operands. `kind` is the type of
    its operation.
    """

    name: str
    part: Part
    output: str
    weight: str
    bias: str | None
    kind: str = "conv"


def block_of(spec: Any) -> Any:
    """Return the block of operations that a `Model` message runs."""
    function = inner(spec).mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def ends_in_rows(spec: Any) -> bool:
    """Whether a program itself chooses the best boxes, and returns one in each row."""
    return any(op.type == "topk" for op in block_of(spec).operations)


def results_of(block: Any) -> tuple[str, ...]:
    """The tensors that a program returns: of a classifier its probabilities `[1, classes]`."""
    for op in block.operations:
        if op.type == CLASSIFY:
            return (str(op.inputs["probabilities"].arguments[0].name),)
    return tuple(str(name) for name in block.outputs)


def labels_of(spec: Any) -> tuple[str, ...]:
    """The labels with which a classifier returns its probabilities, in the order of these; none of another program."""
    for op in block_of(spec).operations:
        if op.type == CLASSIFY:
            value = op.inputs["classes"].arguments[0].value.immediateValue
            return tuple(
                str(item.immediateValue.tensor.strings.values[0]) for item in value.list.values
            )
    return ()


def before_rows(block: Any) -> tuple[str, ...]:
    """The values from which a program that ends in rows chooses: boxes `[1, 4, A]`, scores, extras if there are any.

    It is written after `yolodeploy_torch.model.top_k`. Raises StepFailed for any other end.
    """
    made = _producers(block)
    scores = [_source(op) for op in block.operations if op.type == "reduce_max"]
    found = []
    for op in block.operations:
        turned = made.get(_source(op)) if op.type == "gather_along_axis" else None
        if turned is not None and turned.type == "transpose" and _source(turned) != scores[-1]:
            found.append(_source(turned))
    if found:
        return found[0], scores[-1], *found[1:]
    raise StepFailed(
        "the end of the program does not choose the best boxes. Export the model again."
    )


def _source(op: Any) -> str:
    return str(op.inputs["x"].arguments[0].name)


def layers(block: Any, parts: Mapping[str, Part]) -> tuple[Layer, ...]:
    """Every convolution and matrix with weights of its own, in order of execution.

    `parts` are the parts of the checkpoint's layers by name, as `read_layers` gives them. Raises StepFailed
    for a convolution that is none of them, unless it computes distances from distributions.
    """
    written = {name.replace(".", "_"): name for name in parts}
    producers = _producers(block)
    return tuple(
        _layer(op, written, parts, producers) for op in block.operations if op.type in WEIGHTED
    )


def _layer(
    conv: Any, written: Mapping[str, str], parts: Mapping[str, Part], producers: Mapping[str, Any]
) -> Layer:
    named = {key: argument.arguments[0].name for key, argument in conv.inputs.items()}
    weight, output = named["weight"], conv.outputs[0].name
    name = _module(weight, written)
    if name is None:
        reads = producers.get(named["x"])
        if reads is None or reads.type != "softmax":
            raise StepFailed(
                f"the weights {weight!r} belong to no layer that layers.json names. Export the model again."
            )
        name = _DFL
    bias = named.get("bias") or None
    return Layer(name, parts.get(name, _DFL), output, weight, bias, conv.type)


def _module(weight: str, written: Mapping[str, str]) -> str | None:
    """The layer whose weights these are, whatever modules it lies in; None if it is none of them."""
    for end in _WEIGHT.finditer(weight):
        module = weight[: end.start()]
        while module and module not in written:
            module = module.partition("_")[2]
        if module:
            return written[module]
    return None


def _producers(block: Any) -> dict[str, Any]:
    return {out.name: op for op in block.operations for out in op.outputs}


def stored_layers(block: Any, parts: Mapping[str, Part]) -> dict[str, str]:
    """How every layer's weights are stored, such as "fp16", "4-bit palette", "50 % sparse fp16".

    "int8" means that it computes with 8-bit weights and activations.
    """
    producers = _producers(block)
    found = {}
    for layer in layers(block, parts):
        reads = producers.get(producers[layer.output].inputs["x"].arguments[0].name)
        eight_bit = reads is not None and reads.type == "dequantize"
        found[layer.name] = "int8" if eight_bit else _form(layer.weight, producers)
    return found


def _form(weight: str, producers: Mapping[str, Any]) -> str:
    op = producers.get(weight)
    if op is None:
        raise StepFailed(f"no operation of the program gives the weights {weight!r}. Export again.")
    if op.type == "constexpr_sparse_to_dense":
        return _sparse_form(op, producers)
    if op.type in ("constexpr_lut_to_dense", "constexpr_lut_to_sparse"):
        entries = _operand(op, "lut").dimensions
        # iOS 16's table is flat; iOS 18's ends with the entries and the length of each.
        count = entries[-2 if len(entries) > 1 else 0].constant.size
        return f"{count.bit_length() - 1}-bit palette"
    if op.type == "constexpr_affine_dequantize":
        return "int8 weights"
    if op.type == "constexpr_blockwise_shift_scale":
        return f"{_type(_operand(op, 'data'))} weights"
    if op.type == "constexpr_sparse_blockwise_shift_scale":
        return f"{_type(_operand(op, 'nonzero_data'))} weights"
    return _type(op.outputs[0].type.tensorType)


def _sparse_form(op: Any, producers: Mapping[str, Any]) -> str:
    values = op.inputs["nonzero_data"].arguments[0].name if op.inputs else ""
    if values:
        stored = {out.name: out.type.tensorType for out in producers[values].outputs}[values]
        form = _form(values, producers)
    else:
        stored = _operand(op, "nonzero_data")
        form = _type(stored)
    shape = op.outputs[0].type.tensorType.dimensions
    weights = math.prod(size.constant.size for size in shape)
    return f"{1 - stored.dimensions[0].constant.size / weights:.0%} sparse {form}".replace(
        "%", " %"
    )


def _operand(op: Any, key: str) -> Any:
    """The type of an operand, which iOS 16 stores as an attribute and iOS 18 as an input."""
    if key in op.attributes:
        return op.attributes[key].type.tensorType
    return op.inputs[key].arguments[0].value.type.tensorType


def _type(tensor_type: Any) -> str:
    return data_types()[tensor_type.dataType].lower().replace("float", "fp")


def is_quantized(block: Any) -> bool:
    """Whether a program computes with 8-bit activations already."""
    return any(op.type == "quantize" for op in block.operations)
