"""The layers of an ONNX model, what decodes their results, and which maps an 8-bit model holds in 8 bits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto

from yolodeploy.compress import LAYERS_FILE, Kind, Node, Part, decoding, read_layers, told_task
from yolodeploy.errors import StepFailed
from yolodeploy_onnxruntime.model_file import Array, Lookup, identity, shape_of

# Operators that move numbers, so that all of their maps have one grid of levels, and operators that ONNX
# Runtime has in 8 bits with a grid of its own for every map.
MOVING = frozenset({"Concat", "MaxPool", "Resize", "Split", "Reshape", "Transpose"})
_COMPUTING = frozenset({"Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_STORED = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8 weights"}

_COLUMNS = 6  # of rows: corners, score, class


@dataclass(frozen=True)
class Structure:
    """`parts` by name, of the layers with weights and of the operators that decode their results.

    `convolutions` are those that can compute in 8 bits, in order of execution, with the matrix of a classifier.
    """

    lookup: Lookup
    parts: dict[str, Part]
    layers: Mapping[str, NodeProto]
    classifies: bool = False

    @cached_property
    def convolutions(self) -> dict[str, NodeProto]:
        """The convolutions over maps, and the matrix that scores classes, by name, in order of execution."""
        return {name: node for name, node in self.layers.items() if self._computes(name, node)}

    def _computes(self, name: str, node: NodeProto) -> bool:
        axes = {"Conv": 4, "MatMul": 2 if self.classifies else None}
        return self.weights(name).ndim == axes.get(node.op_type)

    @property
    def forms(self) -> dict[str, str]:
        """How every layer is stored or computed, by name."""
        return {name: _form(self.lookup, node) for name, node in self.layers.items()}

    @cached_property
    def gates(self) -> dict[str, NodeProto]:
        """The sigmoids that gate their own input (SiLU), by the name of the product."""
        found = {}
        for node in self.lookup.nodes:
            gate = self.lookup.makers.get(node.input[1]) if node.op_type == "Mul" else None
            own = gate and gate.op_type == "Sigmoid" and gate.input[0] == node.input[0]
            if gate and own and len(self.lookup.readers[gate.output[0]]) == 1:
                found[identity(node)] = gate
        return found

    def weights(self, name: str) -> Array:
        """The weights of a layer, expanded."""
        return self.lookup.values(self.layers[name].input[1])

    def kernel(self, name: str) -> Array:
        """The weights of one of the `convolutions` [outputs, inputs / groups, height, width]."""
        found = self.weights(name)
        return found.T[..., None, None] if self.layers[name].op_type == "MatMul" else found

    def bias(self, name: str) -> str | None:
        """The constant that is added to what one of the `convolutions` makes; None if there is none."""
        node = self.layers[name]
        if node.op_type == "Conv":
            return node.input[2] if len(node.input) > 2 else None
        sums = [each for each in self.lookup.readers[node.output[0]] if each.op_type == "Add"]
        added = [value for each in sums for value in each.input if value in self.lookup.constants]
        return added[0] if len(added) == 1 else None

    def maps(self, node: NodeProto) -> tuple[str, ...]:
        """The values that an operator reads and that depend on the image."""
        return tuple(value for value in node.input if value not in self.lookup.constants)

    def decodes(self, node: NodeProto) -> bool:
        """Whether an operator decodes the results of the head."""
        return self.parts.get(identity(node)) == "decode"


def find_structure(model: onnx.ModelProto, folder: Path) -> Structure:
    """The structure of the model of the artifact in `folder`.

    Raises StepFailed if `layers.json` does not name its layers, or it is no detector.
    """
    known, lookup = read_layers(folder), Lookup(model)
    layers = {node.name: node for node in lookup.nodes if has_weights(lookup, node)}
    for name in layers:
        if name not in known:
            raise StepFailed(
                f"{folder / LAYERS_FILE} does not name {name[:60]}, a layer of the graph. The file is "
                "damaged; build it again."
            )
    nodes = [
        Node(identity(node), _kind(lookup, layers, node), tuple(_sources(lookup, node)))
        for node in lookup.nodes
    ]
    ends = {identity(lookup.makers[each.name]) for each in model.graph.output}
    decode = decoding(nodes, ends, {name: known[name] for name in layers})
    parts: dict[str, Part] = {name: known[name] for name in layers}
    task = told_task(parts.values(), len(shape_of(model.graph.output[0])))
    parts |= dict.fromkeys(decode, "decode")
    return Structure(lookup, parts, layers, classifies=task == "classify")


def gives_rows(model: onnx.ModelProto, parts: Collection[Part]) -> bool:
    """Whether a model ends in the best findings of a one-to-one head, which it selects itself.

    A detector of which only the outputs are known may select queries, and give them as anchors.
    """
    shape = shape_of(model.graph.output[0])
    selects = any(node.op_type == "TopK" for node in model.graph.node)
    if told_task(parts, len(shape)) != "detect":
        return selects
    return selects and shape[-1:] == (_COLUMNS,)


@dataclass(frozen=True)
class Region:
    """What is in 8 bits: the names of operators besides the convolutions, and the values around them."""

    operators: frozenset[str]
    values: frozenset[str]


def region(structure: Structure, names: Collection[str], gridded: Collection[str]) -> Region:
    """What is in 8 bits where the convolutions `names` are; values that are not `gridded` have no grid.

    Operators between these convolutions compute in 8 bits where ONNX Runtime can do that. The results of the
    convolutions are rounded too, unless they are decoded.
    """
    eligible, inside = _eligible(structure, names, gridded), dict[str, NodeProto]()
    wanted = {node.input[0] for name, node in structure.convolutions.items() if name in names}
    values = set(wanted)
    for node in reversed(structure.lookup.nodes):
        if identity(node) in eligible and not wanted.isdisjoint(node.output):
            inside[identity(node)] = node
            wanted.update(structure.maps(node))
    for node in inside.values():
        values.update(node.output, structure.maps(node))
    for name, node in structure.convolutions.items():
        if name in names and node.output[0] in gridded and _rounded(structure, node):
            values.add(node.output[0])
    hidden = {node.input[0] for node in structure.lookup.nodes if _fused(structure, node, names)}
    hidden |= {inside[name].input[1] for name in inside.keys() & structure.gates.keys()}
    return Region(frozenset(inside), frozenset(values - hidden))


def _eligible(
    structure: Structure, names: Collection[str], gridded: Collection[str]
) -> frozenset[str]:
    """Operators that could compute in 8 bits because a map that they read is in 8 bits."""
    available, found = set[str](), set[str]()
    for node in structure.lookup.nodes:
        maps = structure.maps(node)
        if node.name in names:
            available.update(node.output)
        elif _possible(node, len(maps)) and not structure.decodes(node):
            fused = _fused(structure, node, names)
            known = all(value in gridded for value in (*maps, *node.output))
            if fused or (known and not available.isdisjoint(maps)):
                available.update(node.output)
                found.add(identity(node))
    return frozenset(found)


def _possible(node: NodeProto, maps: int) -> bool:
    """Whether ONNX Runtime has an operator in 8 bits; one that combines a map with a constant is not."""
    if node.op_type in ("Add", "Mul"):
        return maps == 2
    return node.op_type in MOVING | _COMPUTING | {"Relu"}


def _fused(structure: Structure, node: NodeProto, names: Collection[str]) -> bool:
    """Whether an operator is part of the convolution in front of it, as ONNX Runtime fuses them."""
    maker = structure.lookup.makers.get(node.input[0]) if node.op_type == "Relu" else None
    alone = maker and len(structure.lookup.readers[node.input[0]]) == 1
    return bool(maker and alone and maker.op_type == "Conv" and maker.name in names)


def _rounded(structure: Structure, node: NodeProto) -> bool:
    """Whether something other than the decoding reads what a convolution makes."""
    readers = structure.lookup.readers.get(node.output[0], [])
    return any(not structure.decodes(reader) for reader in readers)


def has_weights(lookup: Lookup, node: NodeProto) -> bool:
    """Whether a node is a convolution, or multiplies a map by constant weights."""
    return (
        node.op_type in _WEIGHTED
        and node.input[1] in lookup.constants
        and node.input[0] not in lookup.constants
    )


def outputs_last(node: NodeProto) -> bool:
    """Whether the outputs of a layer are the last axis of its weights, not the first."""
    turned = any(each.name == "transB" and each.i for each in node.attribute)
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not turned)


def _sources(lookup: Lookup, node: NodeProto) -> Iterator[str]:
    return (identity(lookup.makers[value]) for value in node.input if value in lookup.makers)


def _kind(lookup: Lookup, layers: Mapping[str, NodeProto], node: NodeProto) -> Kind:
    if node.name in layers:
        return "convolution"
    return "constant" if lookup.constants.issuperset(node.output) else "other"


def _form(lookup: Lookup, node: NodeProto) -> str:
    value, kinds = node.input[1], list[str]()
    while value in lookup.makers:
        maker = lookup.makers[value]
        kinds.append(maker.op_type)
        value = maker.input[0]
    stored = lookup.stored[value].data_type
    return "int8" if "DequantizeLinear" in kinds else _STORED.get(stored, str(stored))
