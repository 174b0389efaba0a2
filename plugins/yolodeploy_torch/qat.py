"""The step `qat`: a model -> the same architecture, trained in fake 8 bits, with the ranges it learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import PlanRefused
from yolodeploy_torch import folder
from yolodeploy_torch.batches import Batch
from yolodeploy_torch.compute import threads
from yolodeploy_torch.fakequant import FakeQuantized
from yolodeploy_torch.finetune import trainable, write_history
from yolodeploy_torch.knowledge import score_loss, side_loss
from yolodeploy_torch.loss import DetectionLoss
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.observe import observe
from yolodeploy_torch.params import Qat
from yolodeploy_torch.structure import choose, convolutions
from yolodeploy_torch.ties import ties
from yolodeploy_torch.train import Task, train

_IMAGES = 32  # that the first ranges are taken from


def qat(artifact: Artifact, params: Qat, context: Context) -> Path:
    """Write the trained model and `ranges.json`; the batch statistics stay those of the input.

    Raises PlanRefused for a selector without a match or if nothing is left to quantize; the rest as
    `train` does.
    """
    model = trainable(artifact)
    kept = choose(params.keep_float, convolutions(model.arch), "keep_float")
    if kept >= ties(model.arch).keys():
        raise PlanRefused("`keep_float` selects every convolution. Use `finetune`.")
    teacher = folder.read(artifact.path)
    view = context.data["training"].spread(_IMAGES)
    with threads(1):  # so that the sums do not depend on the number of threads
        grids = observe(teacher, (torch.from_numpy(one) for one in view.letterboxed(context.imgsz)))
    student = FakeQuantized(model, grids, kept)
    lesson = _Lesson(student, teacher, params, context.imgsz)
    task = Task(student, lesson, rate=lambda name: _rate(name, params))
    trained, history = train(task, params, context)
    result = cast("FakeQuantized", trained)
    folder.write(context.work, result.yolo.arch, result.yolo.state_dict())
    result.ranges().write(context.work)
    write_history(context.work, history)
    return context.work


def _rate(name: str, params: Qat) -> float:
    return params.range_rate if name.startswith(("reads.", "makes.")) else 1.0


class _Lesson:
    """The loss of a batch: the labels', and the distance from what the float model gives."""

    def __init__(self, student: FakeQuantized, teacher: Yolo, params: Qat, imgsz: int) -> None:
        self._student, self._params, self._imgsz = student, params, imgsz
        self._teacher = teacher.to(params.device).to(memory_format=torch.channels_last)
        self._labels = DetectionLoss(teacher.arch)

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        params = self._params
        boxes, scores = self._student.yolo.logits(batch.images)
        parts: dict[str, Tensor] = {}
        if params.labels:
            losses = self._labels(boxes, scores, batch.targets, self._imgsz)._asdict()
            parts.update({name: params.labels * value for name, value in losses.items()})
        if params.response:
            with torch.no_grad():
                their_boxes, their_scores = self._teacher.logits(batch.images)
            weights = [level.float().sigmoid().amax(1) for level in their_scores]
            parts["scores"] = params.response * score_loss(scores, their_scores)
            parts["sides"] = params.response * side_loss(boxes, their_boxes, weights)
        return parts
