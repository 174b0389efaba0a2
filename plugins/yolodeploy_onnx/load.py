"""The step `load` for ONNX files: reads one into the artifact format "yolo"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import onnx
from onnx import ModelProto

from yolodeploy.backend import ONNX_FILE, Artifact, Context, Counts, ModelInfo, Params
from yolodeploy.compress import write_layers
from yolodeploy.errors import ModelError
from yolodeploy.recipe import Preprocess
from yolodeploy.system import ImageShape, shown
from yolodeploy_onnx.graph import passed_on_parts
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.reading import Read, read
from yolodeploy_torch.graph import Unsupported
from yolodeploy_torch.model import info, keep_classes, threads, write


def load(artifact: Artifact, params: Params, context: Context) -> Path:
    """Read `artifact.path`, an .onnx file, safely, and write the model into the work folder."""
    wanted = cast("LoadOnnx", params)
    with threads(1):
        found = _with_classes(read(artifact.path, wanted, context.imgsz), wanted, artifact.path)
    if isinstance(found.model, ModelProto):
        (context.work / ONNX_FILE).write_bytes(found.model.SerializeToString(deterministic=True))
        write_layers(context.work, passed_on_parts(found.model))
    else:
        write(context.work, found.model, found.state)
    file_info(found, wanted).write(context.work)
    return context.work


def facts(path: Path, params: Params) -> ModelInfo:
    """What an .onnx file says of its model; raises ModelError if `load` would refuse the file."""
    wanted = cast("LoadOnnx", params)
    with threads(1):
        found = read(path, wanted, None)
    sides = (found.imgsz.height, found.imgsz.width)
    return replace(file_info(found, wanted), imgsz=sides[0] if len(set(sides)) == 1 else sides)


def file_info(found: Read, params: LoadOnnx) -> ModelInfo:
    """What the core needs to know about a file that was read."""
    preprocess = params.preprocess or Preprocess()
    known = _outputs_known(found) if isinstance(found.model, ModelProto) else info(found.model)
    letterboxed = (
        preprocess.fit == Preprocess().fit
    )  # classifiers are not, unless their recipe could say so
    return replace(known, fit=known.fit if letterboxed else preprocess.fit, fill=preprocess.fill)


def _outputs_known(found: Read) -> ModelInfo:
    """What is known of a file that is passed on: its weights are its arrays with several axes."""
    proto = cast("ModelProto", found.model)
    weights = [tensor.dims for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    return ModelInfo(
        "detect",
        found.names,
        found.strides,
        sum(map(math.prod, weights)),
        channels=found.imgsz.channels,
        head=found.selected,
        heads=(found.selected,),
        known="outputs",
        obstacle=found.obstacle,
    )


def counts(artifact: Artifact, _imgsz: ImageShape) -> Counts:
    """Parameters and multiply-accumulates of a file that is passed on, which has one size."""
    proto = onnx.load(artifact.path / ONNX_FILE)
    graph = proto.graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    macs = sum(_macs(node, shapes) for node in graph.node)
    return Counts(ModelInfo.read(artifact.path).parameters, macs)


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Multiplications of a convolution, or of a product of matrices; 0 for others."""
    given, made = ([shapes.get(name, []) for name in names] for names in (node.input, node.output))
    if node.op_type == "Conv":
        return math.prod(made[0]) * math.prod(given[1][1:])
    if node.op_type in ("MatMul", "Gemm") and given[0]:
        return math.prod(made[0]) * given[0][-1]
    return 0


def _with_classes(found: Read, params: LoadOnnx, path: Path) -> Read:
    """Keep the classes that the recipe asks for; planning has checked that they exist."""
    if params.classes is None:
        return found
    if isinstance(found.model, ModelProto):
        raise ModelError(
            f"{shown(path)} cannot keep some of its classes, because {found.obstacle} cannot be read. Remove `classes`."
        )
    places = [found.names.index(name) for name in params.classes]
    try:
        graph, state = keep_classes(found.model, dict(found.state), places)
    except Unsupported as error:
        raise ModelError(f"{shown(path)} cannot keep some of its classes: {error}.") from error
    return replace(found, names=params.classes, model=graph, state=state)
