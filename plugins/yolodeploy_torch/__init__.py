"""The source side: reads checkpoints of the YOLO families safely and runs them in PyTorch.

Its artifact format is "yolo": a folder with `info.json`, `graph.json` (the table of primitives)
and `model.safetensors` (float32 weights, batch normalisation not fused). Other plugins start from
`yolodeploy_torch.model`. The packages in it import PyTorch when a name in them is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from yolodeploy.backend import (
    Artifact,
    Context,
    Counts,
    Device,
    Inspected,
    Interface,
    Load,
    ModelInfo,
    Params,
    Predictor,
    Step,
    Target,
    Tensor,
)
from yolodeploy.data import Dataset
from yolodeploy.system import GREY, ImageShape, installed, missing
from yolodeploy_torch import checkpoint, model, pruning, qat, training
from yolodeploy_torch.params import Distill, Finetune, Prune, Qat, Training

NAME = "torch"
DEVICES: Sequence[Device] = ()

_WEIGHTS = ".pt"
_DISTRIBUTIONS = ("torch", "safetensors", "numpy")
# It scored held-out images until that was done in numpy, with the same figures; ids of trained steps still name it.
_SCORING = ("faster-coco-eval",)
Run = Callable[[Artifact, Params, Context], Path]
Then = Callable[[Params, Sequence[tuple[Step, Params]]], str | None]


def _load(artifact: Artifact, params: Params, context: Context) -> Path:
    return checkpoint.load(artifact, params, context)


def _prune(artifact: Artifact, params: Params, context: Context) -> Path:
    return pruning.prune(artifact, cast("Prune", params), context)


def _finetune(artifact: Artifact, params: Params, context: Context) -> Path:
    return training.finetune(artifact, cast("Finetune", params), context)


def _distill(artifact: Artifact, params: Params, context: Context) -> Path:
    return training.distill(artifact, cast("Distill", params), context)


def _qat(artifact: Artifact, params: Params, context: Context) -> Path:
    return qat.qat(artifact, cast("Qat", params), context)


def _fits_qat(params: Params, rest: Sequence[tuple[Step, Params]]) -> str | None:
    return qat.fits_qat(cast("Qat", params).keep_float, rest)


def _reads(params: Params) -> tuple[str, ...]:
    """Training images where there is something to learn, calibration images to mend what was pruned."""
    if not isinstance(params, Prune):
        return ("training",)
    learns = params.importance == "taylor" or params.finetune is not None
    return ("calibration", "training") if learns else ("calibration",)


def _fits_model(params: Params, info: ModelInfo) -> str | None:
    return training.fits_model(params, info)


def _fits_labels(params: Params, view: Dataset) -> str | None:
    return training.fits_labels(params, view)


def _labels_for(params: Params) -> str | None:
    return training.labels_for(params)


def _varies(params: Params) -> str | None:
    """Only a CPU adds up in the same order every time."""
    how = params.finetune if isinstance(params, Prune) else cast("Training", params)
    if how is None or how.device == "cpu":
        return None
    return f"it trains on `device: {how.device}`, which adds up in any order"


def _training_step(
    name: str, params: type[Params], run: Run, then: Then | None = None, revision: int = 1
) -> Step:
    """A step that may train and score held-out images."""
    return Step(
        name,
        "yolo",
        "yolo",
        params,
        run,
        revision=revision,
        reads=_reads,
        varies=_varies,
        tools=_SCORING,
        then=then,
        fits=_fits_model,
        labels_for=_labels_for,
        fits_labels=_fits_labels,
    )


STEPS: Sequence[Step] = (
    Step("load", _WEIGHTS, "yolo", Load, _load, revision=2),
    _training_step("prune", Prune, _prune, revision=3),
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
    """None: no step here depends on the target."""
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001
    """Run the model in PyTorch on this machine's CPU."""
    return model.TorchPredictor(model.fused_module(model.read(artifact.path)), threads)


def count(artifact: Artifact, imgsz: ImageShape) -> Counts:
    """Count the parameters of the model, and what it computes for one image."""
    return model.counts(artifact.path, imgsz)


def facts(weights: Path, params: Params | None = None) -> ModelInfo:  # noqa: ARG001
    """What a checkpoint says of its model: classes, strides, training size; ModelError if it cannot be loaded."""
    return checkpoint.facts(weights)


def inspect(path: Path) -> Inspected | None:
    """What a checkpoint or a loaded model is, read without PyTorch."""
    if path.is_file() and path.suffix.lower() == _WEIGHTS:
        return checkpoint.inspect_checkpoint(path)
    return model.inspect_artifact(path) if model.is_artifact(path) else None


def describe(artifact: Artifact) -> Interface:
    """The inputs and outputs of the source model; its image size is free."""
    info = ModelInfo.read(artifact.path)
    colours = "grey" if info.channels == GREY else "RGB"
    image = Tensor("images", (-1, info.channels, -1, -1), "float32", f"{colours}, NCHW, 0..1")
    return Interface("model.safetensors", (image,), model.described(info), scale=1 / 255)
