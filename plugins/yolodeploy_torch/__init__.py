"""The source side: reads YOLOv8 checkpoints safely and runs them in PyTorch.

Its artifact format is "yolo": a folder with `info.json`, `arch.json` (the table of layers)
and `model.safetensors` (float32 weights, batch normalisation not fused). Other plugins
start from `yolodeploy_torch.export`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from yolodeploy.backend import (
    Artifact,
    Context,
    Device,
    Interface,
    ModelInfo,
    Predictor,
    Step,
    Target,
    Tensor,
    installed,
    missing,
)
from yolodeploy.counts import Counts
from yolodeploy.transforms import Params
from yolodeploy_torch.following import fits_qat
from yolodeploy_torch.params import Distill, Finetune, Prune, Qat, Training

NAME = "torch"
DEVICES: Sequence[Device] = ()

_DISTRIBUTIONS = ("torch", "safetensors", "numpy")
_JUDGES = ("faster-coco-eval",)
Run = Callable[[Artifact, Params, Context], Path]
Then = Callable[[Params, Sequence[tuple[Step, Params]]], str | None]

# OpenMP reads this once, when PyTorch is imported. Its threads spin while they wait for each
# other, and beside any other busy process two of them take many times as long as one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Load(Params):
    """Read a YOLOv8 detection checkpoint (.pt) without running anything in it."""


def _load(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_torch.load import load

    return load(artifact, params, context)


def _prune(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_torch.prune import prune

    return prune(artifact, cast("Prune", params), context)


def _finetune(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_torch.finetune import finetune

    return finetune(artifact, cast("Finetune", params), context)


def _distill(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_torch.finetune import distill

    return distill(artifact, cast("Distill", params), context)


def _qat(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_torch.qat import qat

    return qat(artifact, cast("Qat", params), context)


def _fits_qat(params: Params, rest: Sequence[tuple[Step, Params]]) -> str | None:
    return fits_qat(cast("Qat", params).keep_float, rest)


def _prune_reads(params: Params) -> tuple[str, ...]:
    given = cast("Prune", params)
    learns = given.importance == "taylor" or given.finetune is not None
    return ("calibration", "training") if learns else ("calibration",)


def _prune_varies(params: Params) -> str | None:
    training = cast("Prune", params).finetune
    return _varies(training) if training else None


def _varies(params: Params) -> str | None:
    """Only sums on a CPU come in the same order every time."""
    device = cast("Training", params).device
    return (
        None if device == "cpu" else f"it trains on `device: {device}`, which adds up in any order"
    )


def _training_step(
    name: str, params: type[Params], run: Run, then: Then | None = None, revision: int = 1
) -> Step:
    """A step that trains; the held-out images are judged with the library that computes mAP."""
    return Step(
        name,
        "yolo",
        "yolo",
        params,
        run,
        revision=revision,
        reads=("training",),
        varies=_varies,
        tools=_JUDGES,
        then=then,
    )


STEPS: Sequence[Step] = (
    Step("load", ".pt", "yolo", Load, _load),
    Step(
        "prune",
        "yolo",
        "yolo",
        Prune,
        _prune,
        revision=2,
        reads=_prune_reads,
        varies=_prune_varies,
        tools=_JUDGES,
    ),
    _training_step("finetune", Finetune, _finetune),
    _training_step("distill", Distill, _distill),
    _training_step("qat", Qat, _qat, _fits_qat, revision=2),
)


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Why this machine cannot run the plugin, with the remedy; None if it can."""
    return missing("torch", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """Nothing here depends on the target."""
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001
    """Run the model in PyTorch on this machine's CPU."""
    from yolodeploy_torch.predictor import TorchPredictor

    return TorchPredictor(artifact.path, threads)


def count(artifact: Artifact, imgsz: int) -> Counts:
    """Count what the model holds, and what it computes for one image."""
    from yolodeploy_torch.counting import counts

    return counts(artifact.path, imgsz)


def describe(artifact: Artifact) -> Interface:
    """How to feed the source model; its image size is free."""
    info = ModelInfo.read(artifact.path)
    image = Tensor("images", (-1, 3, -1, -1), "float32", "RGB, NCHW, 0..1")
    output = Tensor(
        "output0",
        (-1, 4 + len(info.names), -1),
        "float32",
        "per anchor: centre x, centre y, width, height in input pixels, then one score per class",
    )
    return Interface("model.safetensors", (image,), (output,), scale=1 / 255)
