"""A model of which only the outputs are known: its ONNX file is passed on, with names for its layers."""

from __future__ import annotations

from pathlib import Path

import onnx

from yolodeploy.compress import Part, read_layers
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_onnxruntime.model_file import (
    IMAGES,
    MODEL_FILE,
    OUTPUTS,
    Lookup,
    identity,
    read_model,
    shape_of,
)
from yolodeploy_onnxruntime.params import Export
from yolodeploy_onnxruntime.structure import has_weights


def passed_on(
    folder: Path, options: Export, imgsz: ImageShape
) -> tuple[onnx.ModelProto, dict[str, Part], list[str]]:
    """The model, the part of every layer with weights as the file's reader has told it, and the names of their tensors."""
    model = read_model(folder)
    _check(model, folder / MODEL_FILE, options, imgsz)
    del model.graph.value_info[:]
    _store_constants(model)
    _name(model)
    lookup = Lookup(model)
    layers = {node.name: node for node in lookup.nodes if has_weights(lookup, node)}
    if not layers:
        raise StepFailed(f"{folder / MODEL_FILE} has no layer with weights. It is no detector.")
    known = read_layers(folder)
    parts = {name: known.get(name, "head") for name in layers}
    return model, parts, [node.input[1] for node in layers.values()]


def _check(model: onnx.ModelProto, file: Path, options: Export, imgsz: ImageShape) -> None:
    """Refuse what a finished file cannot be given."""
    given = [(each.name, shape_of(each)) for each in model.graph.input]
    made = [each.name for each in model.graph.output]
    if given != [(IMAGES, imgsz.batch)] or made != [OUTPUTS[0]]:
        raise StepFailed(
            f"{file} must take `{IMAGES}` of shape {imgsz.batch} and give `{OUTPUTS[0]}`, but it takes {given} and "
            f"gives {made}. Load the model again."
        )
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if options.batch > 1:
        raise PlanRefused(
            f"`batch: {options.batch}`: a file that is passed on takes one image at a time. Remove `batch`."
        )
    if "opset" in options.model_fields_set and options.opset != opset:
        raise PlanRefused(
            f"`opset: {options.opset}`: the file that is passed on has version {opset} of the operators. Remove "
            "`opset`, or export the model again."
        )


def _store_constants(model: onnx.ModelProto) -> None:
    """Make tensors of the nodes that only hold one."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored = model.graph.initializer.add()
            stored.CopyFrom(node.attribute[0].t)
            stored.name = node.output[0]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _name(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: one that is missing or taken becomes that of its first value."""
    taken: set[str] = set()
    for node in model.graph.node:
        if identity(node) in taken:
            node.name = node.output[0]
        taken.add(identity(node))
        node.name = identity(node)
