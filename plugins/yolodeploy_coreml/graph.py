"""The convolutions of a saved program: their names in the checkpoint and their parts.

Names of values change with the releases of PyTorch and coremltools; what feeds what does not. The
parts are derived from that alone, also after compression, which keeps the names of weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.package import data_types, inner
from yolodeploy_torch.structure import Part

_MODULE = re.compile(r"model_(\d+_\w+?)_(?:weight|bias)")


@dataclass(frozen=True)
class Layer:
    """A convolution: its module's name in the checkpoint, its part, and the values that it reads.

    `output` is the value that it computes, `weight` and `bias` the values it is given.
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
    """Every convolution in order of execution; raises StepFailed if the program is no detector.

    From the outputs back to the joins of the scales is the decoder; a convolution in there is `dfl`.
    Those next before a join are `head.last`, a convolution that reaches a single one of them is
    `head`; of the others, `neck` are those that an upsampled map reaches.
    """
    behind = decoder(block)
    ends = _ends(block, behind)
    found: list[Layer] = []
    upsampled: set[str] = set()
    for op in block.operations:
        if op.type == "upsample_nearest_neighbor" or upsampled.intersection(_reads(op)):
            upsampled.update(out.name for out in op.outputs)
        if op.type == "conv":
            output = op.outputs[0].name
            part: Part = "neck" if output in upsampled else "backbone"
            if output in behind:
                part = "dfl"
            elif len(ends[output]) == 1:
                part = "head.last" if output in ends[output] else "head"
            found.append(_layer(op, part))
    return tuple(found)


def _layer(conv: Any, part: Part) -> Layer:
    named = {key: argument.arguments[0].name for key, argument in conv.inputs.items()}
    module = _MODULE.search(named["weight"])
    output = conv.outputs[0].name
    name = f"model.{module[1].replace('_', '.')}" if module else output
    return Layer(name, part, output, named["weight"], named.get("bias") or None)


def decoder(block: Any) -> set[str]:
    """Walk back from the outputs to the concatenations of the scales' flattened feature maps.

    Returns the names of all values computed on the way.
    """
    producers = _producers(block)
    found: set[str] = set()
    pending, joins = list(block.outputs), 0
    while pending:
        op = producers.get(name := pending.pop())
        if op is None:
            raise StepFailed(
                f"the program is not a YOLO detector: its outputs depend on {name} past no head. "
                "Export a detection model."
            )
        if _is_join(op, producers):
            joins += 1
        elif name not in found:
            found.update(out.name for out in op.outputs)
            pending += _reads(op)
    if not joins:
        raise StepFailed("the program has no detection head. Export a detection model.")
    return found


def _is_join(op: Any, producers: Mapping[str, Any]) -> bool:
    if op.type != "concat":
        return False
    parts = [producers.get(binding.name) for binding in op.inputs["values"].arguments]
    return all(part is not None and part.type == "reshape" for part in parts)


def _ends(block: Any, behind: set[str]) -> dict[str, frozenset[str]]:
    """The last convolutions that depend on each value; one of them depends on itself alone."""
    ends: dict[str, frozenset[str]] = {}
    for op in reversed(block.operations):
        names = [out.name for out in op.outputs]
        if behind.isdisjoint(names):
            reached = frozenset().union(*(ends.get(name, frozenset()) for name in names))
            if op.type == "conv" and not reached:
                reached = frozenset(names)
            for name in (*names, *_reads(op)):
                ends[name] = ends.get(name, frozenset()) | reached
    return ends


def _producers(block: Any) -> dict[str, Any]:
    return {out.name: op for op in block.operations for out in op.outputs}


def _reads(op: Any) -> Iterator[str]:
    return (b.name for a in op.inputs.values() for b in a.arguments if b.name)


def stored_layers(block: Any) -> dict[str, str]:
    """How every convolution's weights are stored, such as "fp16", "4-bit palette", "50 % sparse fp16".

    "int8" alone says that it computes with 8-bit weights and activations.
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
        raise StepFailed("a convolution's weights come from nowhere. Export again.")
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
    """Type of an operand, which iOS 16 keeps in attributes and iOS 18 in inputs."""
    if key in op.attributes:
        return op.attributes[key].type.tensorType
    return op.inputs[key].arguments[0].value.type.tensorType


def _type(tensor_type: Any) -> str:
    return data_types()[tensor_type.dataType].lower().replace("float", "fp")
