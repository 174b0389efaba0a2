"""Evaluates the ML program of a saved .mlpackage, operation by operation, in torch.

This checks the file that ships: its own weights (decompressed as Core ML does), its own
preprocessing, its own decoder. Arithmetic is fp32; each result that the program types fp16 is rounded
to fp16. The Neural Engine's accumulation order and scheduling are not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage import (
    CLASSIFY,
    CONSTEXPR,
    Package,
    Reader,
    Value,
    block_of,
    main_function,
    names_read,
    report_damage,
    results_of,
    shape_of,
)
from yolodeploy_coreml.runtime.mil_ops import MOVES, OPS

_REMEDY = "Check this package on a Mac, where Core ML itself runs it."
# Called with an operation's output name, its arguments and its result; returns the result to use.
Tap = Callable[[str, Mapping[str, Any], Tensor], Tensor]
Watch = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class _Instruction:
    """One operation: the names that its arguments have, those of its results, and which to round.

    `last_read` are the values that no later operation reads.
    """

    label: str
    run: Callable[..., Any]
    arguments: Mapping[str, str | list[str]]
    outputs: tuple[str, ...]
    rounded: tuple[bool, ...]
    last_read: tuple[str, ...]

    def __call__(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        try:
            results = self.run(**arguments)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise StepFailed(f"{self.label} cannot be evaluated: {error!r}. {_REMEDY}") from error
        return (results,) if isinstance(results, Tensor) else tuple(results)


class Program:
    """The program of a package, ready to run.

    `input` and `outputs` are MIL names. Calling it takes the input as a float32 tensor in the
    program's own units and returns the outputs by name, as float32; of a classifier the probabilities, which it
    pairs with class names at last. `outputs` names other values to return instead. Raises StepFailed, naming the operation, if the program holds one that cannot be
    evaluated.
    """

    @report_damage("the saved program")
    def __init__(self, package: Package, outputs: tuple[str, ...] = ()) -> None:
        block, image = block_of(package.spec), main_function(package.spec).inputs[0]
        _refuse_unknown(block.operations)
        self.input: str = image.name
        self.outputs = outputs or results_of(block)
        self.shape = shape_of(image.type.tensorType)
        self._reader = Reader(package.weights)
        steps = [op for op in block.operations if op.type in OPS]
        used = {name for op in steps for name in names_read(op)}
        constants = self._constants(block.operations)
        self._constants_used = {n: _as_tensor(v) for n, v in constants.items() if n in used}
        last_reads = _last_reads(steps)
        self._instructions = [
            self._bind(op, last_read) for op, last_read in zip(steps, last_reads, strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, image: Tensor, watch: Watch | None = None) -> dict[str, Tensor]:
        """Evaluate the program once; `image` has the shape `self.shape`.

        `watch(name, value)` sees each value that is computed; it must not change it.
        """
        return self.evaluate(image, watch=watch)

    @report_damage("the saved program")
    def evaluate(
        self, image: Tensor, tap: Tap | None = None, watch: Watch | None = None
    ) -> dict[str, Tensor]:
        """Evaluate the program once, showing `tap` what every operation takes and gives.

        With a tap nothing is rounded to fp16, so that gradients keep their small values.
        """
        values: dict[str, Any] = {**self._constants_used, self.input: image}
        for step in self._instructions:
            arguments = {
                key: values[name] if isinstance(name, str) else [values[each] for each in name]
                for key, name in step.arguments.items()
            }
            results = step(arguments)
            if tap is not None and len(results) == 1:
                results = (tap(step.outputs[0], arguments, results[0]),)
            for name, result, rounded in zip(step.outputs, results, step.rounded, strict=True):
                values[name] = result.half().float() if rounded and tap is None else result
                if watch is not None:
                    watch(name, values[name])
            for name in step.last_read:
                del values[name]
        return {name: values[name] for name in self.outputs}

    def _constants(self, operations: Any) -> dict[str, Value]:
        constants: dict[str, Value] = {}
        for op in operations:
            if op.type == "const":
                constants[op.outputs[0].name] = self._reader.read(op.attributes["val"])
            elif op.type in CONSTEXPR:
                results = self._reader.decompress(op, constants)
                constants.update(zip((out.name for out in op.outputs), results, strict=True))
        return constants

    def _bind(self, op: Any, last_read: list[str]) -> _Instruction:
        """Make an instruction of an operation; the values that it is given in place become constants."""
        arguments: dict[str, str | list[str]] = {}
        label = op.outputs[0].name
        for key, argument in op.inputs.items():
            names = []
            for index, binding in enumerate(argument.arguments):
                name = binding.name
                if binding.WhichOneof("binding") == "value":
                    name = f"{label}.{key}.{index}"
                    self._constants_used[name] = _as_tensor(self._reader.read(binding.value))
                names.append(name)
            if key == "values":
                arguments[key] = names
            else:
                (arguments[key],) = names
        half = [self._reader.type_name(out.type.tensorType) == "FLOAT16" for out in op.outputs]
        return _Instruction(
            label=f"{op.type} ({label})",
            run=OPS[op.type],
            arguments=arguments,
            outputs=tuple(out.name for out in op.outputs),
            rounded=tuple(is_half and op.type not in MOVES for is_half in half),
            last_read=tuple(name for name in last_read if name not in self.outputs),
        )


def _refuse_unknown(operations: Any) -> None:
    known = {"const", CLASSIFY, *OPS, *CONSTEXPR}
    unknown = sorted({op.type for op in operations} - known)
    if unknown:
        raise StepFailed(
            f"the executor does not know the operation(s) {', '.join(unknown)}. {_REMEDY}"
        )


def _last_reads(operations: list[Any]) -> list[list[str]]:
    """Say of each operation which computed values no later one reads."""
    last: dict[str, int] = {}
    for index, op in enumerate(operations):
        last.update({out.name: index for out in op.outputs})
        last.update({name: index for name in names_read(op) if name in last})
    found: list[list[str]] = [[] for _ in operations]
    for name, index in last.items():
        found[index].append(name)
    return found


def _as_tensor(value: Value) -> Tensor | str:
    if isinstance(value, str):
        return value
    array = np.array(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array)
