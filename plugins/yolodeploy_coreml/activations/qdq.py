"""Putting `quantize` and `dequantize` around convolutions of a program.

The form is the one that coremltools' `linear_quantize_activations` writes and that Core ML turns
into 8-bit arithmetic: a pair in front of the convolution and, unless its result stays float, one
behind it. A value has one pair, whoever reads it: two grids for one value would round it twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from yolodeploy_coreml.activations.ranges import Grid
from yolodeploy_coreml.mlpackage import (
    MATRIX,
    Operand,
    bindings,
    floats,
    new_operation,
    replace_operations,
    set_text,
    set_value,
    type_numbers,
)


def fp16_values(block: Any) -> frozenset[str]:
    """Names of the values that a program types fp16."""
    outputs = (out for op in block.operations for out in op.outputs)
    half = type_numbers()["FLOAT16"]
    return frozenset(out.name for out in outputs if out.type.tensorType.dataType == half)


def insert_pairs(block: Any, grids: Mapping[str, Grid], convolutions: Collection[str]) -> None:
    """Put the values in `grids` on their grids, for `convolutions` (names of their outputs).

    What these convolutions read comes from the pair of the value, everyone else reads the value
    itself; what they compute is read from its pair by everyone.
    """
    operations = []
    for op in block.operations:
        quantized = op.type in ("conv", MATRIX) and op.outputs[0].name in convolutions
        for binding in bindings(op):
            if binding.name in grids and (quantized or binding.name in convolutions):
                binding.name = f"{binding.name}_dequantized"
        operations.append(op)
        for out in op.outputs:
            if out.name in grids:
                operations += _pair(out, grids[out.name])
    replace_operations(block, operations)


def _pair(value: Any, grid: Grid) -> Iterator[Any]:
    """The constants and the two operations that round a value to its grid."""
    numbers, name, kind = type_numbers(), value.name, value.type.tensorType.dataType
    scale = np.array(grid.scale, "<f2" if kind == numbers["FLOAT16"] else "<f4")
    operands = {"scale": f"{name}_scale", "zero_point": f"{name}_zero_point"}
    dtype = f"{name}_output_dtype"
    yield _constant(operands["scale"], kind, floats(scale))
    zero = Operand("INT8", (), np.int8(grid.zero).tobytes())
    yield _constant(operands["zero_point"], numbers["INT8"], zero)
    yield _constant(dtype, numbers["STRING"], "int8")
    quantized = _operation("quantize", value, {"input": name, "output_dtype": dtype, **operands})
    quantized.outputs[0].type.tensorType.dataType = numbers["INT8"]
    yield quantized
    yield _operation("dequantize", value, {"input": f"{name}_quantized", **operands})


def _operation(type_: str, value: Any, inputs: Mapping[str, str]) -> Any:
    """An operation whose result has the type of `value`."""
    name = f"{value.name}_{type_}d"
    op = new_operation(type_, name)
    for key, source in inputs.items():
        op.inputs[key].arguments.add(name=source)
    op.outputs.add(name=name).type.CopyFrom(value.type)
    return op


def _constant(name: str, kind: int, content: str | Operand) -> Any:
    op = new_operation("const", name)
    op.outputs.add(name=name).type.tensorType.dataType = kind
    if isinstance(content, str):
        set_text(op.attributes["val"], content)
    else:
        set_value(op.attributes["val"], content)
    return op
