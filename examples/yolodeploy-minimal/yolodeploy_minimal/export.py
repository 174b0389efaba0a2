"""The `export` step: convert the PyTorch model to one ONNX file."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from yolodeploy.backend import Artifact, Context, Params
from yolodeploy_torch.model import exportable

FILE = "model.onnx"


def run(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001
    """Write `model.onnx`: input `images` [1, 3, H, W], output `output0` [1, 4 + classes, A]."""
    module = exportable(artifact.path, context.imgsz)
    with warnings.catch_warnings():
        # PyTorch recommends its newer exporter, which needs one more package.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(context.imgsz.batch),),
            context.work / FILE,
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["output0"],
        )
    return context.work
