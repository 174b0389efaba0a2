"""Evaluates the ML program of a saved .mlpackage, operation by operation, in torch.

What is checked this way is the file that ships: its own weights (decompressed as Core ML
does), its own preprocessing, its own decoder. Arithmetic is fp32; each result that the program
types fp16 is rounded to fp16. The Neural Engine's accumulation order and scheduling are not
reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mil_ops import MOVES, OPS
from yolodeploy_coreml.package import Package, inner, reading
from yolodeploy_coreml.values import CONSTEXPR, Reader, Value, shape_of

_MAIN = "main"
_REMEDY = "Check this package on a Mac, where Core ML itself runs it."
_Constant = Tensor | str
# Called with an operation's output name, its arguments and its result; returns the result to use.
Tap = Callable[[str, Mapping[str, Any], Tensor], Tensor]
Watch = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class _Instruction:
    """One operation, bound: which names it reads and writes, and what dies after it."""

    label: str
    run: Callable[..., Any]
    single: Mapping[str, str]
    listed: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    rounded: tuple[bool, ...]
    dead: tuple[str, ...]

    def __call__(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        try:
            results = self.run(**arguments)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise StepFailed(f"{self.label} cannot be evaluated: {error!r}. {_REMEDY}") from error
        return (results,) if isinstance(results, Tensor) else tuple(results)


class Program:
    """The program of a package, ready to run.

    `input` and `outputs` are MIL names. Calling it takes the input as a float32 tensor in the
    program's own units and returns the outputs by name, as float32. Raises StepFailed, naming
    the operation, if the program holds one that cannot be evaluated.
    """

    @reading("the saved program")
    def __init__(self, package: Package) -> None:
        function = inner(package.spec).mlProgram.functions[_MAIN]
        block = function.block_specializations[function.opset]
        _refuse_unknown(block.operations)
        self.input: str = function.inputs[0].name
        self.outputs: tuple[str, ...] = tuple(block.outputs)
        self.shape = shape_of(function.inputs[0].type.tensorType)
        self._reader = Reader(package.weights)
        constants = self._constants(block.operations)
        steps = [op for op in block.operations if op.type in OPS]
        last = _last_uses(steps)
        self._instructions = [
            self._bind(op, constants, [name for name, index in last.items() if index == i])
            for i, op in enumerate(steps)
        ]
        used = {name for step in self._instructions for name in _reads(step)}
        self._constants_used = {name: _prepared(v) for name, v in constants.items() if name in used}

    @torch.inference_mode()
    def __call__(self, image: Tensor, watch: Watch | None = None) -> dict[str, Tensor]:
        """Evaluate the program once; `image` has the shape `self.shape`.

        `watch(name, value)` sees each value that is computed; it must not change it.
        """
        return self.evaluate(image, watch=watch)

    @reading("the saved program")
    def evaluate(
        self, image: Tensor, tap: Tap | None = None, watch: Watch | None = None
    ) -> dict[str, Tensor]:
        """Evaluate the program once, showing `tap` what every operation takes and gives.

        With a tap nothing is rounded to fp16, so that gradients keep their small values.
        """
        values: dict[str, Any] = {**self._constants_used, self.input: image}
        for step in self._instructions:
            arguments = {key: values[name] for key, name in step.single.items()}
            for key, names in step.listed.items():
                arguments[key] = [values[name] for name in names]
            results = step(arguments)
            if tap is not None and len(results) == 1:
                results = (tap(step.outputs[0], arguments, results[0]),)
            for name, result, rounded in zip(step.outputs, results, step.rounded, strict=True):
                values[name] = result.half().float() if rounded and tap is None else result
                if watch is not None:
                    watch(name, values[name])
            for name in step.dead:
                del values[name]
        return {name: values[name] for name in self.outputs}

    def _constants(self, operations: Any) -> dict[str, Value]:
        constants: dict[str, Value] = {}
        for op in operations:
            if op.type == "const":
                constants[op.outputs[0].name] = self._reader.read(op.attributes["val"])
            elif op.type in CONSTEXPR:
                arguments = {
                    key: self._argument(value, constants) for key, value in op.inputs.items()
                }
                # iOS 16's forms keep their operands in attributes, iOS 18's in inputs.
                for key, value in op.attributes.items():
                    if key != "name":
                        arguments[key] = self._reader.read(value)
                dense = CONSTEXPR[op.type](**arguments)
                results = dense if isinstance(dense, tuple) else (dense,)
                constants.update(zip((out.name for out in op.outputs), results, strict=True))
        return constants

    def _argument(self, argument: Any, constants: Mapping[str, Value]) -> Value:
        (binding,) = argument.arguments
        if binding.WhichOneof("binding") == "value":
            return self._reader.read(binding.value)
        return constants[binding.name]

    def _bind(self, op: Any, constants: dict[str, Value], dead: list[str]) -> _Instruction:
        single, listed = {}, {}
        label = op.outputs[0].name
        for key, argument in op.inputs.items():
            names = []
            for index, binding in enumerate(argument.arguments):
                name = binding.name
                if binding.WhichOneof("binding") == "value":
                    name = f"{label}.{key}.{index}"
                    constants[name] = self._reader.read(binding.value)
                names.append(name)
            if key == "values":
                listed[key] = tuple(names)
            else:
                (single[key],) = names
        half = [self._reader.type_name(out.type.tensorType) == "FLOAT16" for out in op.outputs]
        return _Instruction(
            label=f"{op.type} ({label})",
            run=OPS[op.type],
            single=single,
            listed=listed,
            outputs=tuple(out.name for out in op.outputs),
            rounded=tuple(is_half and op.type not in MOVES for is_half in half),
            dead=tuple(name for name in dead if name not in self.outputs),
        )


def _refuse_unknown(operations: Any) -> None:
    known = {"const", *OPS, *CONSTEXPR}
    unknown = sorted({op.type for op in operations} - known)
    if unknown:
        raise StepFailed(
            f"the executor does not know the operation(s) {', '.join(unknown)}. {_REMEDY}"
        )


def _last_uses(operations: list[Any]) -> dict[str, int]:
    """Map each computed value to the index of the operation after which nothing reads it."""
    last: dict[str, int] = {}
    for index, op in enumerate(operations):
        for out in op.outputs:
            last[out.name] = index
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.name in last:
                    last[binding.name] = index
    return last


def _reads(step: _Instruction) -> set[str]:
    return {*step.single.values(), *(name for names in step.listed.values() for name in names)}


def _prepared(value: Value) -> _Constant:
    if isinstance(value, str):
        return value
    array = np.array(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array)
