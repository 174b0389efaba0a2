"""Putting `quantize` and `dequantize` around convolutions of a program.

The form is the one that coremltools' `linear_quantize_activations` writes and that Core ML turns
into 8-bit arithmetic: a pair in front of the convolution and, unless its result stays float, one
behind it. A value has one pair, whoever reads it: two grids for one value would round it twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from yolodeploy_coreml.package import data_types, messages
from yolodeploy_coreml.ranges import Grid

_HALF = "FLOAT16"


def is_quantized(block: Any) -> bool:
    """Whether a program computes with 8-bit activations already."""
    return any(op.type == "quantize" for op in block.operations)


def half_values(block: Any) -> frozenset[str]:
    """The values that a program types fp16."""
    number = {name: number for number, name in data_types().items()}[_HALF]
    outputs = (out for op in block.operations for out in op.outputs)
    return frozenset(out.name for out in outputs if out.type.tensorType.dataType == number)


def insert(block: Any, grids: Mapping[str, Grid], convolutions: Collection[str]) -> None:
    """Put the values in `grids` on their grids, for `convolutions` (names of their outputs).

    What these convolutions read comes from the pair of the value, everyone else reads the value
    itself; what they compute is read from its pair by everyone.
    """
    operations = []
    for op in block.operations:
        quantized = op.type == "conv" and op.outputs[0].name in convolutions
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.name in grids and (quantized or binding.name in convolutions):
                    binding.name = f"{binding.name}_dequantized"
        operations.append(op)
        for out in op.outputs:
            if out.name in grids:
                operations += _pair(out, grids[out.name])
    kept = [_copy(op) for op in operations]
    del block.operations[:]
    block.operations.extend(kept)


def _copy(op: Any) -> Any:
    copy = type(op)()
    copy.CopyFrom(op)
    return copy


def _pair(value: Any, grid: Grid) -> Iterator[Any]:
    """The constants and the two operations that round a value to its grid."""
    numbers = {name: number for number, name in data_types().items()}
    kind = value.type.tensorType.dataType
    name = value.name
    scale, zero, dtype = f"{name}_scale", f"{name}_zero_point", f"{name}_output_dtype"
    half = kind == numbers[_HALF]
    yield _constant(scale, kind, np.array(grid.scale, "<f2" if half else "<f4"))
    yield _constant(zero, numbers["INT8"], np.array(grid.zero, np.int8))
    yield _constant(dtype, numbers["STRING"], "int8")
    operands = {"scale": scale, "zero_point": zero}
    yield _operation("quantize", f"{name}_quantized", value, numbers["INT8"], {"input": name, "output_dtype": dtype, **operands})  # fmt: skip
    yield _operation("dequantize", f"{name}_dequantized", value, kind, {"input": f"{name}_quantized", **operands})  # fmt: skip


def _operation(type_: str, name: str, like: Any, kind: int, inputs: Mapping[str, str]) -> Any:
    op = _named(type_, name)
    for key, source in inputs.items():
        op.inputs[key].arguments.add(name=source)
    out = op.outputs.add(name=name)
    out.type.CopyFrom(like.type)
    out.type.tensorType.dataType = kind
    return op


def _constant(name: str, kind: int, content: str | np.ndarray[Any, Any]) -> Any:
    op = _named("const", name)
    op.outputs.add(name=name).type.tensorType.dataType = kind
    value = op.attributes["val"]
    value.type.tensorType.dataType = kind
    tensor = value.immediateValue.tensor
    if isinstance(content, str):
        tensor.strings.values.append(content)
    elif content.dtype == np.float32:
        tensor.floats.values.append(float(content))
    else:
        tensor.bytes.values = content.tobytes()
    return op


def _named(type_: str, name: str) -> Any:
    op = messages().MIL__pb2.Operation(type=type_)
    attribute = op.attributes["name"]
    attribute.type.tensorType.dataType = {n: k for k, n in data_types().items()}["STRING"]
    attribute.immediateValue.tensor.strings.values.append(name)
    return op
