"""Operations of an ML program as `MIL.proto` stores them: what they read, and how to add some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from yolodeploy_coreml.mlpackage.package import data_types, inner, messages


def main_function(spec: Any) -> Any:
    """Return the function that a `Model` message runs."""
    return inner(spec).mlProgram.functions["main"]


def bindings(op: Any) -> Iterator[Any]:
    """What an operation's inputs are bound to: each a name, or a value given in place."""
    return (binding for argument in op.inputs.values() for binding in argument.arguments)


def names_read(op: Any) -> set[str]:
    """Names of the values that an operation reads."""
    return {binding.name for binding in bindings(op) if binding.name}


def operands(op: Any) -> dict[str, Any]:
    """The `Value`s given in place: iOS 16 keeps them in attributes, iOS 18 in inputs."""
    found = {key: value for key, value in op.attributes.items() if key != "name"}
    for key, argument in op.inputs.items():
        (binding,) = argument.arguments
        if binding.WhichOneof("binding") == "value":
            found[key] = binding.value
    return found


@cache
def type_numbers() -> Mapping[str, int]:
    """Numbers of MIL's tensor data types by name."""
    return {name: number for number, name in data_types().items()}


def set_type(tensor: Any, number: int, shape: Iterable[int] = ()) -> None:
    """Make a `TensorType` message say this data type and this shape."""
    tensor.dataType = number
    for size in shape:
        tensor.dimensions.add().constant.size = size
    tensor.rank = len(tensor.dimensions)


def set_text(value: Any, text: str) -> None:
    """Make a `Value` message hold a string."""
    set_type(value.type.tensorType, type_numbers()["STRING"])
    value.immediateValue.tensor.strings.values.append(text)


def new_operation(type_: str, name: str) -> Any:
    """Return an operation without inputs and outputs."""
    op = messages().MIL__pb2.Operation(type=type_)
    set_text(op.attributes["name"], name)
    return op


def replace_operations(block: Any, operations: Iterable[Any]) -> None:
    """Make `operations` those of the block; some of them may be its own."""
    copies = []
    for op in operations:
        copies.append(type(op)())
        copies[-1].CopyFrom(op)
    del block.operations[:]
    block.operations.extend(copies)
