"""The steps `finetune` and `distill`: a model -> the same architecture, trained further."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy_torch import folder
from yolodeploy_torch.batches import Batch
from yolodeploy_torch.knowledge import Lesson, read_teacher
from yolodeploy_torch.loss import DetectionLoss
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.params import Distill, Finetune, Training
from yolodeploy_torch.progress import History
from yolodeploy_torch.train import Task, train

HISTORY_FILE = "training.json"


def finetune(artifact: Artifact, params: Finetune, context: Context) -> Path:
    """Train on the labels alone; errors as in `train`."""
    model, history = fit(folder.read(artifact.path), params, context)
    return _written(model, history, context)


def fit(model: Yolo, params: Training, context: Context) -> tuple[Yolo, History]:
    """Train a model on the labels alone; returns the trained one, without gradients."""
    loss = DetectionLoss(model.arch)

    def of(batch: Batch) -> Mapping[str, Tensor]:
        return loss(*model.logits(batch.images), batch.targets, context.imgsz)._asdict()

    trained, history = train(Task(_unfrozen(model), of), params, context)
    return cast("Yolo", trained), history


def distill(artifact: Artifact, params: Distill, context: Context) -> Path:
    """Train on the labels and on what the teacher gives; errors as in `train` and `read_teacher`."""
    model = trainable(artifact)
    lesson = Lesson(model, read_teacher(params, context), params, context.imgsz)
    trained, history = train(Task(model, lesson, lesson.adapters), params, context)
    return _written(cast("Yolo", trained), history, context)


def trainable(artifact: Artifact) -> Yolo:
    """The model of an artifact with gradients for everything but the fixed box expectation."""
    return _unfrozen(folder.read(artifact.path))


def _unfrozen(model: Yolo) -> Yolo:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl." not in name)
    return model


def _written(model: Yolo, history: History, context: Context) -> Path:
    folder.write(context.work, model.arch, model.state_dict())
    write_history(context.work, history)
    return context.work


def write_history(work: Path, history: History, name: str = HISTORY_FILE) -> None:
    """Write a file such as `training.json`: loss and held-out mAP by epoch, and which epoch was taken."""
    text = json.dumps(asdict(history), indent=1, sort_keys=True)
    (work / name).write_text(text + "\n", encoding="utf-8")
