"""Knowledge distillation: what a student is taught beside the labels.

Response distillation compares outputs: class scores, and the distributions of the box sides (Zheng
et al., Localization Distillation, https://arxiv.org/abs/2102.12252). Feature distillation compares
the maps that the heads read (Romero et al., FitNets, https://arxiv.org/abs/1412.6550), through a 1x1
convolution to the teacher's channels. Box sides and maps count by the teacher's highest class score
at their anchor, for almost all of an image is background; class scores are compared everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from yolodeploy.backend import Context
from yolodeploy.errors import ModelError, StepFailed
from yolodeploy_torch import folder
from yolodeploy_torch.arch import Arch
from yolodeploy_torch.batches import Batch
from yolodeploy_torch.load import read_checkpoint_model
from yolodeploy_torch.loss import DetectionLoss
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.params import Distill

_TINY = 1e-9


def read_teacher(params: Distill, context: Context) -> Yolo:
    """The pinned checkpoint, or the model that the recipe starts from; in evaluation mode.

    Raises ModelError for a checkpoint that cannot be used, or whose classes are others.
    """
    if params.teacher:
        teacher = read_checkpoint_model(params.teacher.file)
        if teacher.arch.names != context.names:
            raise ModelError(
                f"the teacher {params.teacher.file.name} tells {len(teacher.arch.names)} classes apart "
                f"({_first(teacher.arch.names)}), the model {len(context.names)} ({_first(context.names)}). "
                "Use a teacher that was trained for the same classes in the same order."
            )
        return teacher
    if context.source is None:
        raise StepFailed("`distill` without `teacher` needs the model that the recipe starts from")
    return folder.read(context.source.path)


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


class Lesson:
    """The loss of a batch: labels, responses and features, each with its gain.

    `adapters` are the 1x1 convolutions, trained beside the student and then forgotten.
    """

    def __init__(self, student: Yolo, teacher: Yolo, params: Distill, imgsz: int) -> None:
        _require_same_head(student.arch, teacher.arch)
        self._student, self._params, self._imgsz = student, params, imgsz
        self._teacher = teacher.to(params.device).to(memory_format=torch.channels_last)
        self._labels = DetectionLoss(student.arch)
        self.adapters = _adapters(student.arch, teacher.arch) if params.feature else nn.ModuleList()

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of the loss, means over the images of the batch."""
        params = self._params
        ours = self._student.features(batch.images)
        boxes, scores = self._student.head(*ours)
        with torch.no_grad():
            theirs = self._teacher.features(batch.images)
            their_boxes, their_scores = self._teacher.head(*theirs)
        parts: dict[str, Tensor] = {}
        if params.labels:
            losses = self._labels(boxes, scores, batch.targets, self._imgsz)._asdict()
            parts.update({name: params.labels * value for name, value in losses.items()})
        weights = [level.float().sigmoid().amax(1) for level in their_scores]
        if params.response:
            parts["scores"] = params.response * score_loss(scores, their_scores)
            parts["sides"] = params.response * side_loss(boxes, their_boxes, weights)
        if params.feature:
            adapted = [adapter(x) for adapter, x in zip(self.adapters, ours, strict=True)]
            parts["features"] = params.feature * feature_loss(adapted, theirs, weights)
        return parts


def score_loss(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Binary cross-entropy of class logits [N, nc, h, w] per level against the teacher's scores.

    Less its smallest possible value, so that a perfect student has 0; summed, and divided by the sum
    of the teacher's highest scores (the number of objects it sees, as the labels' loss does).
    """
    student, teacher = _flat(ours), _flat(theirs)
    wanted = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, wanted, reduction="sum")
    least = functional.binary_cross_entropy_with_logits(teacher, wanted, reduction="sum")
    return 0.5 * (cross - least) / wanted.amax(1).sum().clamp(min=1)


def side_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Divergence of the distributions of the four box sides, weighted by anchor, in nats.

    Logits are [N, 4 * bins, h, w] per level, weights [N, h, w].
    """
    weight = torch.cat([level.flatten(1) for level in weights], dim=1)
    student, teacher = (_sides(_flat(levels)) for levels in (ours, theirs))
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(2)
    return 1.5 * (divergence.mean(1) * weight).sum() / weight.sum().clamp(min=1)


def _sides(logits: Tensor) -> Tensor:
    """Log probabilities [N, 4, bins, A] of [N, 4 * bins, A]."""
    batch, channels, anchors = logits.shape
    return logits.reshape(batch, 4, channels // 4, anchors).log_softmax(2)


def feature_loss(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Mean squared difference of maps [N, C, h, w], relative to the teacher's variance.

    A cell counts by its weight [N, h, w]; the levels count alike.
    """
    parts = []
    for student, teacher, weight in zip(ours, theirs, weights, strict=True):
        scale = teacher.float().var(dim=(0, 2, 3), keepdim=True) + _TINY
        squares = ((student.float() - teacher.float()).square() / scale).mean(1)
        parts.append((squares * weight).sum() / weight.sum().clamp(min=1))
    return torch.stack(parts).mean()


def _flat(levels: list[Tensor]) -> Tensor:
    """[N, C, h, w] per level as one float32 [N, C, A]."""
    return torch.cat([level.float().flatten(2) for level in levels], dim=2)


def _adapters(student: Arch, teacher: Arch) -> nn.ModuleList:
    pairs = zip(student.inputs_of_head(), teacher.inputs_of_head(), strict=True)
    found = nn.ModuleList(nn.Conv2d(ours, theirs, 1, bias=False) for ours, theirs in pairs)
    for adapter in found:  # no random numbers: channel i starts as the teacher's channel i
        weight = cast("Tensor", adapter.weight)
        nn.init.dirac_(weight)
    return found


def _require_same_head(student: Arch, teacher: Arch) -> None:
    ours, theirs = (student.strides, student.reg_max), (teacher.strides, teacher.reg_max)
    if ours != theirs:
        raise ModelError(
            f"the teacher's head (strides, bins) is {theirs}, the model's {ours}: their outputs cannot be "
            "compared. Use a YOLOv8 detection model as the teacher."
        )
