"""A simplified ONNX model that is looked at and changed: its nodes, constants and shapes by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from yolodeploy.system import ImageShape

IMAGES, OUTPUT = "images", "output0"
STANDARD = ("", "ai.onnx")  # the domain of the standard operations, which has two names
_PRODUCER = "yolodeploy"
_SIZES_ARE_INPUT = 13  # the opset in which those of Split became one
Array = NDArray[Any]
Shape = tuple[int, ...]


class Model:
    """Nodes in order of execution; the names of the image and of the outputs may change."""

    def __init__(self, proto: ModelProto, image: str, imgsz: ImageShape) -> None:
        graph = proto.graph
        self._opsets = list(proto.opset_import)
        self.opset = next(each.version for each in proto.opset_import if each.domain in STANDARD)
        self._ir = proto.ir_version
        self.image, self.imgsz = image, imgsz
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.nodes: list[NodeProto] = []
        for node in graph.node:
            value = constant_value(node)
            if value is None:
                self.nodes.append(node)
            else:
                self.constants[node.output[0]] = value
        self.outputs = [value.name for value in graph.output]
        known = [*graph.input, *graph.value_info, *graph.output]
        self._shapes = {value.name: _shape(value) for value in known}
        self._made = 0

    @property
    def channels(self) -> int:
        """The depth of its images."""
        return self.imgsz.channels

    def shape(self, value: str) -> Shape:
        """The shape of a value; empty where it is not known, with 0 for a free dimension."""
        if value in self.constants:
            return tuple(self.constants[value].shape)
        return self._shapes.get(value, ())

    def measured(self, shapes: Mapping[str, Shape]) -> None:
        """Know the shapes that values have, whatever the file states."""
        self._shapes.update(shapes)

    def makers(self) -> dict[str, NodeProto]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self, value: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.nodes if value in node.input]

    def readers_of_all(self) -> dict[str, list[NodeProto]]:
        """The nodes that read each value."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.input):
                found.setdefault(value, []).append(node)
        return found

    def new_constant(self, value: Array) -> str:
        """Add a constant; returns its name."""
        name = self._name("constant")
        self.constants[name] = value
        return name

    def replace_constant(self, node: NodeProto, place: int, value: Array) -> None:
        """Give a node another constant, under the same name if nothing else reads it."""
        name = node.input[place]
        if len(self.readers(name)) > 1:
            name = node.input[place] = self.new_constant(value)
        self.constants[name] = value

    def put(
        self,
        op: str,
        inputs: Sequence[str],
        at: int | None = None,
        outputs: int = 1,
        **attributes: Any,
    ) -> list[str]:
        """Add a node behind all others, or at a place in their order; returns its values."""
        made = [self._name(op.lower()) for _ in range(outputs)]
        node = helper.make_node(op, list(inputs), made, name=made[0], **attributes)
        self.nodes.insert(len(self.nodes) if at is None else at, node)
        return made

    def split(self, value: str, sizes: Sequence[int], at: int | None = None) -> list[str]:
        """Cut a value into pieces along its second axis; returns the pieces."""
        if self.opset < _SIZES_ARE_INPUT:
            return self.put("Split", [value], at, len(sizes), axis=1, split=list(sizes))
        name = self.new_constant(np.array(sizes, np.int64))
        return self.put("Split", [value, name], at, len(sizes), axis=1)

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"yolodeploy_{kind}_{self._made}"

    def drop_unneeded(self) -> None:
        """Remove nodes and constants that no output depends on."""
        wanted, kept = set(self.outputs), list[NodeProto]()
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.output):
                wanted.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}

    def proto(self) -> ModelProto:
        """The whole model with the input `images` and one output `output0`, always with the same bytes."""
        (output,) = self.outputs
        taken = {
            name: f"{name}.file" for name in (IMAGES, OUTPUT)
        }  # a value of the file may be called so
        names = {**taken, self.image: IMAGES, output: OUTPUT}
        nodes = [_renamed(node, names) for node in self.nodes]
        _name_apart(nodes)
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, self.imgsz.batch)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array(np.ascontiguousarray(v), names.get(n, n))
                for n, v in self.constants.items()
            ],
        )
        made = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir)
        made.producer_name = _PRODUCER
        found: ModelProto = shape_inference.infer_shapes(made)
        return found


def constant_value(node: NodeProto) -> Array | None:
    """What a `Constant` node holds; None for other nodes."""
    if node.op_type != "Constant":
        return None
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    kind = np.float32 if node.attribute[0].name.startswith("value_float") else np.int64
    return np.asarray(value, kind)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute of a node; text as str."""
    for each in node.attribute:
        if each.name == name:
            value = helper.get_attribute_value(each)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(max(each.dim_value, 0) for each in value.type.tensor_type.shape.dim)


def _name_apart(nodes: Sequence[NodeProto]) -> None:
    """Give every node a name that no other has: its own, or that of its first value."""
    taken = set[str]()
    for node in nodes:
        if not node.name or node.name in taken:
            node.name = node.output[0]
        taken.add(node.name)


def _renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    for field in (made.input, made.output):
        renamed = [names.get(name, name) for name in field]
        del field[:]
        field.extend(renamed)
    return made


def ancestors(model: Model, values: Iterable[str]) -> set[str]:
    """All values that these depend on, themselves included."""
    wanted = set(values)
    for node in reversed(model.nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(name for name in node.input if name)
    return wanted
