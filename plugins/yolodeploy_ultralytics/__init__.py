"""The way in for checkpoints with modules of one's own: Ultralytics loads them, which executes them.

A recipe has to ask for it (`model: {loader: ultralytics}`), and whoever runs the command has to trust the file
(`--trust-weights`). A process of its own exports the checkpoint to ONNX, and that file is read as any other. This
process, and every other recipe, never imports Ultralytics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import yolodeploy_onnx
from yolodeploy.backend import (
    Artifact,
    Context,
    Counts,
    Device,
    Interface,
    ModelInfo,
    Params,
    Predictor,
    Step,
    Target,
)
from yolodeploy.system import ImageShape, installed, missing
from yolodeploy_ultralytics.params import LoadUltralytics

NAME = "ultralytics"
DEVICES: Sequence[Device] = ()
_DISTRIBUTIONS = ("ultralytics", "torchvision")


def _load(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_ultralytics.load import load

    return load(artifact, cast("LoadUltralytics", params), context)


STEPS: Sequence[Step] = (Step("load", ".pt", "yolo", LoadUltralytics, _load, executes=True),)


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    from yolodeploy_ultralytics.edited import edited

    return {**yolodeploy_onnx.versions(), **installed(*_DISTRIBUTIONS), **edited("ultralytics")}


def problem() -> str | None:
    """Why this machine cannot run the plugin, with the remedy; None if it can."""
    return missing("ultralytics", *_DISTRIBUTIONS) or yolodeploy_onnx.problem()


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """None: what is loaded does not depend on the target."""
    return None


def facts(weights: Path, params: Params) -> ModelInfo:
    """What a checkpoint says of its model, which executes it; ModelError if it cannot be loaded."""
    from yolodeploy_ultralytics.load import facts

    return facts(weights, cast("LoadUltralytics", params))


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    """Run the model as an ONNX file that was read is run."""
    return yolodeploy_onnx.open(artifact, target, threads)


def count(artifact: Artifact, imgsz: ImageShape) -> Counts:
    """Count the parameters of the model, and what it computes for one image."""
    return yolodeploy_onnx.count(artifact, imgsz)


def describe(artifact: Artifact) -> Interface:
    """The inputs and outputs of the source model."""
    return yolodeploy_onnx.describe(artifact)
