"""What a training minimises: the loss on the labels, and the distance from what a teacher gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape
from yolodeploy_torch.model import Arch, Yolo
from yolodeploy_torch.params import Training
from yolodeploy_torch.training.batches import Batch
from yolodeploy_torch.training.detection_loss import DetectionLoss
from yolodeploy_torch.training.distillation import feature_loss, score_loss, side_loss


class Objective:
    """The loss of a batch: labels, the teacher's outputs and its features, times `params.gains`.

    `adapters` are the 1x1 convolutions from the student's features to the teacher's, which are trained
    with the student and then dropped. Raises ModelError if the heads cannot be compared.
    """

    def __init__(
        self, student: Yolo, params: Training, imgsz: ImageShape, teacher: Yolo | None = None
    ) -> None:
        self._student, self._gains, self._imgsz = student, params.gains, imgsz
        self._labels = DetectionLoss(student.arch)
        self._teacher: Yolo | None = None
        self.adapters = nn.ModuleList()
        if teacher:
            require_same_head(student.arch, teacher.arch)
            self._teacher = teacher.to(params.device).to(memory_format=torch.channels_last)
            if params.gains.feature:
                self.adapters = _adapters(student.arch, teacher.arch)

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of the loss, means over the images of the batch."""
        features = self._student.features(batch.images)
        boxes, scores = self._student.head(*features)
        parts: dict[str, Tensor] = {}
        if self._gains.labels:
            losses = self._labels(boxes, scores, batch.targets, self._imgsz)._asdict()
            parts.update({name: self._gains.labels * value for name, value in losses.items()})
        if self._teacher and (self._gains.response or self._gains.feature):
            parts.update(self._taught(self._teacher, batch.images, features, boxes, scores))
        return parts

    def _taught(
        self,
        teacher: Yolo,
        images: Tensor,
        features: list[Tensor],
        boxes: list[Tensor],
        scores: list[Tensor],
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            their_features = teacher.features(images)
            their_boxes, their_scores = teacher.head(*their_features)
        weights = [level.float().sigmoid().amax(1) for level in their_scores]
        parts, gains = dict[str, Tensor](), self._gains
        if gains.response:
            parts["scores"] = gains.response * score_loss(scores, their_scores)
            parts["sides"] = gains.response * side_loss(boxes, their_boxes, weights)
        if gains.feature:
            adapted = [adapt(level) for adapt, level in zip(self.adapters, features, strict=True)]
            parts["features"] = gains.feature * feature_loss(adapted, their_features, weights)
        return parts


def _adapters(student: Arch, teacher: Arch) -> nn.ModuleList:
    pairs = zip(student.inputs_of_head(), teacher.inputs_of_head(), strict=True)
    adapters = nn.ModuleList(nn.Conv2d(ours, theirs, 1, bias=False) for ours, theirs in pairs)
    for adapter in adapters:  # no random numbers: channel i starts as the teacher's channel i
        nn.init.dirac_(cast("Tensor", adapter.weight))
    return adapters


def require_same_head(student: Arch, teacher: Arch) -> None:
    """Raise ModelError if the two have other strides or bins, so that their outputs cannot be compared."""
    ours, theirs = (student.strides, student.reg_max), (teacher.strides, teacher.reg_max)
    if ours != theirs:
        raise ModelError(
            f"the teacher's head (strides, bins) is {theirs}, the model's {ours}: their outputs cannot be "
            "compared. Use a YOLOv8 detection model as the teacher."
        )
