"""The source side for ONNX files: reads detectors of any project into yolodeploy's graph.

Its artifact format is "yolo", see the torch plugin. A file with operations that are no primitives is passed on as
`model.onnx` instead, with the same input and output, to the backends that read ONNX themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolodeploy.backend import (
    INFO_FILE,
    ONNX_FILE,
    Artifact,
    Context,
    Counts,
    Device,
    Inspected,
    Interface,
    ModelInfo,
    Params,
    Predictor,
    Step,
    Target,
)
from yolodeploy.compress import LAYERS_FILE
from yolodeploy.system import ImageShape, installed, missing
from yolodeploy_onnx.params import LoadOnnx

NAME = "onnx"
DEVICES: Sequence[Device] = ()
_DISTRIBUTIONS = ("onnx", "onnxsim", "onnxruntime", "torch", "safetensors", "numpy")


def _load(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_onnx.load import load

    return load(artifact, params, context)


STEPS: Sequence[Step] = (Step("load", ".onnx", "yolo", LoadOnnx, _load),)


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Why this machine cannot run the plugin, with the remedy; None if it can."""
    return missing("onnx", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """None: what is read does not depend on the target."""
    return None


def facts(weights: Path, params: Params) -> ModelInfo:
    """What an ONNX file says of its model: classes, image size; ModelError if it cannot be loaded."""
    from yolodeploy_onnx.load import facts

    return facts(weights, params)


def inspect(path: Path) -> Inspected | None:
    """What an ONNX file is, or an artifact that is passed on; None for others."""
    from yolodeploy_onnx.inspection import inspect_artifact, inspect_file

    if (path / ONNX_FILE).is_file() and (path / INFO_FILE).is_file():
        return inspect_artifact(path)
    named = path.suffix.lower() == ".onnx" and path.is_file()
    return inspect_file(path) if named and not (path.parent / LAYERS_FILE).exists() else None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    """Run the graph in PyTorch, or a file that was passed on in ONNX Runtime, on this machine's CPU."""
    import yolodeploy_torch
    from yolodeploy_onnx.runtime import OnnxPredictor

    if (artifact.path / ONNX_FILE).exists():
        return OnnxPredictor(artifact.path, threads)
    return yolodeploy_torch.open(artifact, target, threads)


def count(artifact: Artifact, imgsz: ImageShape) -> Counts:
    """Count the parameters of the model, and what it computes for one image."""
    import yolodeploy_torch
    from yolodeploy_onnx.load import counts

    return (counts if (artifact.path / ONNX_FILE).exists() else yolodeploy_torch.count)(
        artifact, imgsz
    )


def describe(artifact: Artifact) -> Interface:
    """The inputs and outputs of the source model."""
    import yolodeploy_torch

    return yolodeploy_torch.describe(artifact)
