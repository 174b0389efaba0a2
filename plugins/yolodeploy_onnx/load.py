"""The step `load` for ONNX files: reads one into the artifact format "yolo"."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

from onnx import ModelProto

from yolodeploy.backend import Artifact, Context, ModelInfo, Params
from yolodeploy.errors import ModelError
from yolodeploy.recipe import Preprocess
from yolodeploy.system import shown
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.reading import Read, read
from yolodeploy_onnx.runtime import FILE
from yolodeploy_torch.graph import Unsupported
from yolodeploy_torch.model import info, keep_classes, threads, write


def load(artifact: Artifact, params: Params, context: Context) -> Path:
    """Read `artifact.path`, an .onnx file, safely, and write the model into the work folder."""
    wanted = cast("LoadOnnx", params)
    with threads(1):
        found = _with_classes(read(artifact.path, wanted, context.imgsz), wanted, artifact.path)
    if isinstance(found.model, ModelProto):
        (context.work / FILE).write_bytes(found.model.SerializeToString(deterministic=True))
    else:
        write(context.work, found.model, found.state)
    _info(found, wanted).write(context.work)
    return context.work


def facts(path: Path, params: Params) -> ModelInfo:
    """What an .onnx file says of its model; raises ModelError if `load` would refuse the file."""
    wanted = cast("LoadOnnx", params)
    with threads(1):
        found = read(path, wanted, None)
    sides = (found.imgsz.height, found.imgsz.width)
    return replace(_info(found, wanted), imgsz=sides[0] if len(set(sides)) == 1 else sides)


def _info(found: Read, params: LoadOnnx) -> ModelInfo:
    preprocess = params.preprocess or Preprocess()
    known = _outputs_known(found) if isinstance(found.model, ModelProto) else info(found.model)
    return replace(known, fit=preprocess.fit, fill=preprocess.fill)


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
