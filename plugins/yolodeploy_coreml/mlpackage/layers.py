"""The convolutions of a saved program: names in the checkpoint, parts, and how weights are stored.

Parts are derived from what feeds what, names from the names of the weights, which compression keeps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yolodeploy.compress import Kind, Node, Part, find_parts
from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage.package import data_types, inner

_MODULE = re.compile(r"model_(\d+_\w+?)_(?:weight|bias)")
_KINDS: Mapping[str, Kind] = {
    "conv": "convolution",
    "upsample_nearest_neighbor": "upsample",
    "softmax": "softmax",
    "const": "constant",
}


@dataclass(frozen=True)
class Layer:
    """A convolution: its module's name in the checkpoint, and its part of the model.

    `output`, `weight` and `bias` name values of the program: its result and its operands.
    """

    name: str
    part: Part
    output: str
    weight: str
    bias: str | None


def block_of(spec: Any) -> Any:
    """Return the block of operations that a `Model` message runs."""
    function = inner(spec).mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def layers(block: Any) -> tuple[Layer, ...]:
    """Every convolution in order of execution; raises StepFailed if the program is no detector."""
    parts = _parts(block)
    convolutions = (op for op in block.operations if op.type == "conv")
    return tuple(_layer(op, parts[op.outputs[0].name]) for op in convolutions)


def _parts(block: Any) -> dict[str, Part]:
    """The part of every operation that has one, by the first value that it computes."""
    made = [op for op in block.operations if op.outputs]
    names = {value.name: op.outputs[0].name for op in made for value in op.outputs}

    def makers(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(names[value] for value in values if value in names)

    nodes = [
        Node(op.outputs[0].name, _KINDS.get(op.type, "other"), makers(_reads(op))) for op in made
    ]
    return find_parts(nodes, makers(block.outputs))


def _layer(conv: Any, part: Part) -> Layer:
    named = {key: argument.arguments[0].name for key, argument in conv.inputs.items()}
    module = _MODULE.search(named["weight"])
    output = conv.outputs[0].name
    name = f"model.{module[1].replace('_', '.')}" if module else output
    return Layer(name, part, output, named["weight"], named.get("bias") or None)


def _producers(block: Any) -> dict[str, Any]:
    return {out.name: op for op in block.operations for out in op.outputs}


def _reads(op: Any) -> Iterator[str]:
    return (b.name for a in op.inputs.values() for b in a.arguments if b.name)


def stored_layers(block: Any) -> dict[str, str]:
    """How every convolution's weights are stored, such as "fp16", "4-bit palette", "50 % sparse fp16".

    "int8" means that it computes with 8-bit weights and activations.
    """
    producers = _producers(block)
    found = {}
    for layer in layers(block):
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
