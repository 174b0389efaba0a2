"""Reads the bytes of an ONNX file into a model, and refuses what no detector needs before anything works on it.

The format: https://onnx.ai/onnx/repo-docs/IR.html. Nothing here computes with the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from yolodeploy.errors import ModelError
from yolodeploy.system import MODEL_BYTES, quotable, read_plain, shown

OLDEST, NEWEST = 9, onnx.defs.onnx_opset_version()
_DOMAINS = ("", "ai.onnx")
_MOST_NODES, _MOST_NAMES = 20_000, 200_000
_MOST_AXES = 8
_TYPES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT64: 8,
    TensorProto.INT32: 4,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.BOOL: 1,
}
_FORMS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.DOUBLE: "fp64",
}
_ONE_FILE = "Save it as one file: onnx.save(onnx.load('{name}'), 'one.onnx')"
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_QUANTIZED = re.compile("QuantizeLinear|QLinear|Integer$")


def parse(path: Path) -> ModelProto:
    """Read a file; raises ModelError, in one sentence, for what cannot be used."""
    try:
        model = onnx.load_model_from_string(read_plain(path, MODEL_BYTES))
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{shown(path)} is not an ONNX file, or is damaged.") from error
    for reason in _reasons(model, path):
        raise ModelError(f"{shown(path)} cannot be used: {reason}.")
    return model


def opset(model: ModelProto) -> int:
    """The version of the standard operations that a model states; 0 if it states none."""
    return next((each.version for each in model.opset_import if each.domain in _DOMAINS), 0)


def stored_bytes(model: ModelProto) -> dict[str, int]:
    """The bytes of its weights by the form in which they are stored."""
    found: dict[str, int] = {}
    for tensor in [*model.graph.initializer, *_constants(model.graph.node)]:
        if tensor.data_type in _FORMS:
            form = _FORMS[tensor.data_type]
            found[form] = found.get(form, 0) + _bytes(tensor)
    return found


def called(node: NodeProto) -> str:
    """A node as a message names it."""
    name = node.name or (node.output[0] if node.output else "")
    return f"the node {quotable(name)} ({quotable(node.op_type)})"


def _reasons(model: ModelProto, path: Path) -> Iterable[str]:
    """Why a model cannot be used, each as the end of a sentence."""
    graph = model.graph
    if not graph.node or not graph.output:
        yield "it holds no network"
    if model.functions:
        yield "it defines functions of its own. Inline them: onnx.inliner.inline_local_functions"
    if not OLDEST <= opset(model) <= NEWEST:
        yield (
            f"it states opset {opset(model)}, and {OLDEST} to {NEWEST} are supported. Export it again with "
            "opset 17"
        )
    if sum(each.domain in _DOMAINS for each in model.opset_import) > 1:
        yield "it states several opsets. Export it again with opset 17"
    if len(graph.initializer) > _MOST_NODES:
        yield f"it has {len(graph.initializer):,} tensors, and {_MOST_NODES:,} are allowed"
    if len(graph.node) > _MOST_NODES:
        yield f"it has {len(graph.node):,} nodes, and {_MOST_NODES:,} are allowed"
    if graph.sparse_initializer or graph.quantization_annotation:
        yield "it has sparse or quantized weights. Export it again in float32"
    yield from _odd_nodes(graph.node)
    yield from _odd_tensors(model, path)
    yield from _odd_order(model)


def _odd_nodes(nodes: Iterable[NodeProto]) -> Iterable[str]:
    for node in nodes:
        if node.domain not in _DOMAINS:
            yield (
                f"{called(node)} belongs to `{quotable(node.domain)}`, not to the standard operations of ONNX. "
                "Export the model without it"
            )
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            yield f"{called(node)} holds a network of its own. Export the model without branches and loops"
        if _QUANTIZED.search(node.op_type):
            yield (
                f"{called(node)} shows that it was quantized already. Give the float model, and let `quantize` do it"
            )


def _odd_tensors(model: ModelProto, path: Path) -> Iterable[str]:
    """Weights that lie elsewhere, are of an odd type, or state another size than they have."""
    for tensor in [*model.graph.initializer, *_constants(model.graph.node)]:
        what = f"its tensor {quotable(tensor.name) or 'without a name'}"
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            yield f"{what} lies in another file. {_ONE_FILE.format(name=quotable(path.name))}"
        elif tensor.data_type not in _TYPES:
            yield f"{what} is of a type that no detector needs"
        elif len(tensor.dims) > _MOST_AXES or any(size < 0 for size in tensor.dims):
            yield f"{what} has the shape {list(tensor.dims)[:_MOST_AXES]}"
        elif _bytes(tensor) != math.prod(tensor.dims) * _TYPES[tensor.data_type]:
            yield f"{what} has other bytes than its shape needs"


def _constants(nodes: Iterable[NodeProto]) -> list[TensorProto]:
    return [a.t for node in nodes for a in node.attribute if a.type == AttributeProto.TENSOR]


def _bytes(tensor: TensorProto) -> int:
    """How many bytes the numbers of a tensor take, raw or in the field of their type."""
    size = _TYPES[tensor.data_type]
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    match tensor.data_type:
        case TensorProto.FLOAT:
            count = len(tensor.float_data)
        case TensorProto.DOUBLE:
            count = len(tensor.double_data)
        case TensorProto.INT64:
            count = len(tensor.int64_data)
        case _:
            count = len(tensor.int32_data)
    return count * size


def _odd_order(model: ModelProto) -> Iterable[str]:
    """Values that are made twice, or read before they are made, as in a circle."""
    graph = model.graph
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    if sum(len(node.input) + len(node.output) for node in graph.node) > _MOST_NAMES:
        yield f"its nodes name more than {_MOST_NAMES:,} values"
    for node in graph.node:
        missing = [name for name in node.input if name and name not in known]
        if missing:
            yield f"{called(node)} reads {quotable(missing[0])}, which nothing makes before it"
        made = [name for name in node.output if name]
        if twice := [name for name in made if name in known]:
            yield f"{called(node)} makes {quotable(twice[0])}, which exists already"
        if not made:
            yield f"{called(node)} makes nothing"
        known.update(made)
    for value in graph.output:
        if value.name not in known:
            yield f"nothing makes its output {quotable(value.name)}"
