"""Reading, writing and looking into `model.onnx`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from yolodeploy.errors import StepFailed

MODEL_FILE = "model.onnx"
IMAGES, OUTPUTS = "images", ("output0", "output1")
# The oldest version of the file format for each version of the operators, so that old runtimes read the file.
IR_VERSIONS = {14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
Array = NDArray[Any]


def read_model(folder: Path) -> onnx.ModelProto:
    """Read `folder/model.onnx`; raises StepFailed if it is missing, damaged, or refers to other files."""
    file = folder / MODEL_FILE
    try:
        model = onnx.load(file, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise StepFailed(f"{file} is missing or damaged: {error}. Build it again.") from error
    graph = model.graph
    if not (graph.node and graph.input and graph.output):
        raise StepFailed(f"{file} is damaged: it holds no complete graph. Build it again.")
    if any(tensor.external_data for tensor in graph.initializer):
        raise StepFailed(f"{file} keeps weights in another file. Build it again.")
    return model


def write_model(model: onnx.ModelProto, folder: Path) -> None:
    """Write `folder/model.onnx` in bytes that depend on the model alone."""
    model.producer_name = "yolodeploy"
    for field in ("producer_version", "domain", "doc_string", "model_version"):
        model.ClearField(field)
    del model.metadata_props[:]
    model.graph.name = "yolo"
    file = folder / MODEL_FILE
    file.write_bytes(model.SerializeToString(deterministic=True))
    file.chmod(0o644)  # whatever the umask is


def identity(node: NodeProto) -> str:
    """What a node is called: its name, which only layers with weights need, or the first value that it makes."""
    return str(node.name or node.output[0])


def has_subgraph(node: NodeProto) -> bool:
    """Whether a node holds graphs of its own, as If and Loop do."""
    return any(each.type == onnx.AttributeProto.GRAPH for each in node.attribute)


def tensor(name: str, values: Array) -> TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(values, order="C"), name)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of an input or output; 0 for a size that is not fixed."""
    return tuple(int(axis.dim_value) for axis in value.type.tensor_type.shape.dim)


def set_batch(model: onnx.ModelProto, batch: int) -> None:
    """Make a model take so many images at once: no operation in it names the number."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch


def half(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Store these float32 initializers as float16, each behind a Cast that a runtime folds when it loads."""
    wanted, casts = set(names), []
    for stored in model.graph.initializer:
        if stored.name in wanted and stored.data_type == TensorProto.FLOAT:
            exact = numpy_helper.to_array(stored)
            if np.abs(exact).max(initial=0) <= np.finfo(np.float16).max:
                name = stored.name
                stored.CopyFrom(tensor(f"{name}.fp16", exact.astype(np.float16)))
                casts.append(helper.make_node("Cast", [stored.name], [name], to=1))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the tensors that nothing reads any more, and what expanded them."""
    ends = {each.name for each in model.graph.output}
    while True:
        read = {value for node in model.graph.node for value in node.input} | ends
        nodes = [node for node in model.graph.node if not read.isdisjoint(node.output)]
        if len(nodes) == len(model.graph.node):
            break
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    stored = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)


class Lookup:
    """What makes and what reads the values of a graph that does not change meanwhile."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: tuple[NodeProto, ...] = tuple(model.graph.node)
        self.stored = {each.name: each for each in model.graph.initializer}
        self.makers = {value: node for node in self.nodes for value in node.output if value}

    @cached_property
    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read each value, in order of execution."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.input):
                found.setdefault(value, []).append(node)
        return found

    @cached_property
    def constants(self) -> frozenset[str]:
        """The values that do not depend on the images."""
        found = {*self.stored, ""}
        for node in self.nodes:
            if found.issuperset(node.input) and not has_subgraph(node):
                found.update(node.output)
        return frozenset(found)

    def values(self, name: str) -> Array:
        """A constant, computed from what is stored."""
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.makers[name]
        read = [self.values(each) for each in node.input]
        match node.op_type:
            case "Cast":
                return read[0].astype(np.float32)
            case "Mul":
                return np.asarray(read[0] * read[1])
            case "DequantizeLinear":
                axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                sides = [1] * read[0].ndim
                if read[1].ndim:
                    sides[axis] = -1
                return np.asarray(read[0].astype(np.float32) * read[1].reshape(sides))
            case "Constant":
                return numpy_helper.to_array(node.attribute[0].t)
        raise StepFailed(
            f"{identity(node)} ({node.op_type}) makes weights in a way that is not known."
        )
