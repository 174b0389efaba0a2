"""Writing a model in which some convolutions compute in 8 bits: QuantizeLinear and DequantizeLinear around them.

ONNX Runtime recognises operators between these pairs and runs its 8-bit kernels in their place. SiLU becomes ONNX
Runtime's own QuickGelu, because a gate and a product in 8 bits are slower and less exact (docs/decisions/029).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from yolodeploy_onnxruntime.int8.grids import Grid
from yolodeploy_onnxruntime.int8.rounding import Rounded
from yolodeploy_onnxruntime.model_file import drop_unused, has_subgraph, identity, tensor
from yolodeploy_onnxruntime.structure import Region, Structure

_RUNTIMES_OWN = "com.microsoft"
Activations = Literal["uint8", "int8"]


@dataclass(frozen=True)
class Integer:
    """A convolution in 8 bits: weights, and the float bias if it has one."""

    weights: Rounded
    bias: NDArray[np.float64] | None


class Rewriter:
    """Puts the pairs into a copy of a model."""

    def __init__(
        self,
        structure: Structure,
        region: Region,
        grids: Mapping[str, Grid],
        activations: Activations,
    ) -> None:
        self._structure, self._region, self._grids = structure, region, grids
        self._type = np.dtype(activations)
        self._offset = 128 if activations == "int8" else 0
        self._nodes: list[NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}
        self._scalars: dict[Grid, tuple[str, str]] = {}
        self._floats: dict[str, str] = {}  # what a value in 8 bits is called as floats
        self._sums: dict[str, str] = {}  # the bias that is added to what a matrix makes

    def model(self, model: onnx.ModelProto, convolutions: Mapping[str, Integer]) -> onnx.ModelProto:
        """The model with these convolutions in 8 bits."""
        made = onnx.ModelProto()
        made.CopyFrom(model)
        internal = self._region.operators | convolutions.keys()
        silu = self._region.operators & self._structure.gates.keys()
        from_integers = {
            value
            for node in model.graph.node
            if identity(node) in internal
            for value in node.output
            if value in self._region.values
        }
        for value in sorted(self._region.values & {each.name for each in model.graph.input}):
            self._pair(value)
        for node in made.graph.node:
            self._correct(node)
            for place, value in enumerate(node.input):
                quantized = value in from_integers or identity(node) in internal
                if value in self._region.values and quantized:
                    node.input[place] = self._floats[value]
            if node.name in convolutions:
                self._weights(node, convolutions[node.name])
            if identity(node) in silu:
                node.CopyFrom(_silu(node.input[0], node.output[0]))
            self._nodes.append(node)
            for value in node.output:
                if value in self._region.values:
                    self._pair(value)
        if silu and not any(each.domain == _RUNTIMES_OWN for each in made.opset_import):
            made.opset_import.append(helper.make_opsetid(_RUNTIMES_OWN, 1))
        self._finish(made)
        return made

    def _finish(self, made: onnx.ModelProto) -> None:
        nodes = list(self._nodes)
        del made.graph.node[:]
        made.graph.node.extend(nodes)
        drop_unused(made)
        _shorten(made)
        made.graph.initializer.extend(self._tensors.values())

    def _pair(self, value: str) -> None:
        """Round a value and give it back as floats, under names that are short: they are most of a small file."""
        grid, number = self._grids[value], len(self._floats)
        if grid not in self._scalars:
            names = f"s:{number}", f"z:{number}"
            zero = np.array(grid.zero - self._offset, self._type)
            for name, found in zip(names, (np.array(grid.scale), zero), strict=True):
                self._tensors[name] = tensor(name, found)
            self._scalars[grid] = names
        levels, inputs = f"q:{number}", self._scalars[grid]
        self._floats[value] = f"d:{number}"
        self._nodes += [
            helper.make_node("QuantizeLinear", [value, *inputs], [levels]),
            helper.make_node("DequantizeLinear", [levels, *inputs], [self._floats[value]]),
        ]

    def _weights(self, node: NodeProto, integer: Integer) -> None:
        read = self._grids[self._structure.layers[node.name].input[0]]
        weight, scales, bias = integer.weights, integer.weights.scales, integer.bias
        if node.op_type == "MatMul":
            node.input[1] = self._matrix(node.name, weight)
        else:
            node.input[1] = self._expanded(f"w:{node.name}", weight.integers, scales)
        if bias is not None:
            steps = np.asarray(scales * read.scale, np.float32)
            levels = np.rint(bias / steps.astype(np.float64))
            most = np.iinfo(np.int32).max
            stored = np.clip(levels, -most, most).astype(np.int32)
            added = self._expanded(f"b:{node.name}", stored, steps)
            if node.op_type == "MatMul":
                self._sums[node.output[0]] = added
            else:
                node.input[2] = added

    def _correct(self, node: NodeProto) -> None:
        """Give the sum behind a matrix in 8 bits its bias: ONNX Runtime makes one 8-bit operator of both."""
        for place, value in enumerate(node.input):
            if value in self._sums and node.op_type == "Add":
                node.input[1 - place] = self._sums[value]

    def _expanded(
        self, name: str, integers: NDArray[np.signedinteger], scales: NDArray[np.float32]
    ) -> str:
        """Store integers [outputs, ...] with a scale per output; the name of the floats."""
        # Without a zero point: it is 0, and has the type of the integers.
        return self._floating(name, integers, scales, axis=0)

    def _floating(
        self, name: str, integers: NDArray[Any], scales: NDArray[np.float32], axis: int, *more: str
    ) -> str:
        number = len(self._tensors)
        stored, steps, floats = name, f"s:{name[0]}{number}", f"d:{name[0]}{number}"
        self._tensors[stored], self._tensors[steps] = (
            tensor(stored, integers),
            tensor(steps, scales),
        )
        made = helper.make_node("DequantizeLinear", [stored, steps, *more], [floats], axis=axis)
        self._nodes.append(made)
        return floats

    def _matrix(self, name: str, weights: Rounded) -> str:
        """Store weights as columns, one per output; the name of the floats."""
        # ONNX Runtime has an 8-bit operator for a matrix only where its zero points are there.
        zeros = f"z:{name}"
        self._tensors[zeros] = tensor(zeros, np.zeros(len(weights.scales), np.int8))
        columns = weights.integers[..., 0, 0].T
        return self._floating(f"w:{name}", columns, weights.scales, 1, zeros)


def _shorten(model: onnx.ModelProto) -> None:
    """Number the values between operators: in a small model their names are a tenth of the file."""
    if any(has_subgraph(node) for node in model.graph.node):
        return  # which may read them by name
    ends = {each.name for each in model.graph.output}
    short: dict[str, str] = {}
    for node in model.graph.node:
        for value in node.output:
            if value and value not in ends and ":" not in value:
                short[value] = f"v:{len(short)}"
        node.input[:] = [short.get(value, value) for value in node.input]
        node.output[:] = [short.get(value, value) for value in node.output]


def _silu(value: str, result: str) -> NodeProto:
    """X * sigmoid(x): QuickGelu with alpha 1."""
    return helper.make_node("QuickGelu", [value], [result], domain=_RUNTIMES_OWN, alpha=1.0)
