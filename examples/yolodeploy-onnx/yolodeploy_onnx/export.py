"""The `export` step: convert the PyTorch model to one ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from yolodeploy.backend import Artifact, Context, Export, Params
from yolodeploy_torch.model import exportable

FILE = "model.onnx"
OPSET = 17


def run(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.onnx`: input `images` [1, 3, S, S], output `output0` [1, 4 + classes, A]."""
    module = exportable(artifact.path, context.imgsz)
    raw = context.work / "raw.onnx"
    with warnings.catch_warnings():
        # PyTorch recommends its newer exporter, which needs one more package.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(context.imgsz.batch),),
            raw,
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
        )
    model = onnx.load(raw)
    if cast("Export", params).precision == "fp16":
        _store_fp16(model.graph)
    folder = context.work / "onnx"
    folder.mkdir()
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    return folder


def _store_fp16(graph: onnx.GraphProto) -> None:
    """Store convolution weights as fp16, each with a Cast that the runtime folds when it loads."""
    casts = []
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT and len(weights.dims) == 4:
            name, half = weights.name, numpy_helper.to_array(weights).astype(np.float16)
            weights.CopyFrom(numpy_helper.from_array(half, f"{name}_fp16"))
            casts.append(helper.make_node("Cast", [weights.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
