"""What a training minimises: the loss on the labels, and the distance from what a teacher gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection, Graph, OpenHead
from yolodeploy_torch.losses import LabelLoss
from yolodeploy_torch.model import Outputs
from yolodeploy_torch.params import Training
from yolodeploy_torch.training.batches import Batch
from yolodeploy_torch.training.teaching import (
    Parts,
    Teaching,
    mask_size,
    named,
    prototypes_for,
)


class Student(Protocol):
    """What is trained: gives the logits of every head, as `Trainable` does."""

    @property
    def graph(self) -> Graph:
        """The graph that it was built from."""

    def __call__(self, images: Tensor) -> Outputs:
        """Map images [N, channels, H, W]."""


class Objective:
    """The loss of a batch: labels, the teacher's outputs and its features, times `params.gains`.

    The losses of a model with two heads are added. `adapters` are the 1x1 convolutions from the student's features
    to the teacher's, which are trained with the student and then dropped; the teacher is that of `Teaching`. `masks` is
    the height and width of the labelled masks that batches must have, if any.
    """

    def __init__(
        self,
        student: Student,
        params: Training,
        imgsz: ImageShape,
        teacher: GraphModule | None = None,
    ) -> None:
        head = student.graph.head
        self._student, self._gains, self._imgsz = student, params.gains, imgsz
        self._labels = dict[Head, LabelLoss]()
        self.masks = mask_size(student.graph, imgsz) if params.gains.labels else None
        if isinstance(head, Detection):
            self._labels = {kind: LabelLoss(head, kind, imgsz) for kind in head.branches}
        elif isinstance(head, OpenHead) and params.gains.labels:
            raise ModelError(
                "a loss on labels needs a head that is known, and of this model only the output is. "
                "Write labels: 0"
            )
        self._teaching = None
        if teacher:
            self._teaching = Teaching(student.graph, teacher, params.gains, imgsz, params.device)
        self.adapters = self._teaching.adapters if self._teaching else nn.ModuleList()

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of the loss, means over the images of the batch."""
        outputs, parts = self._student(batch.images), Parts()
        if self._gains.labels:
            parts.update(self._labelled(outputs, batch))
        if self._teaching:
            parts.update(self._teaching(batch.images, outputs))
        return parts

    def _labelled(self, outputs: Outputs, batch: Batch) -> Parts:
        parts, gain = Parts(), self._gains.labels
        if outputs.classes is not None:
            wanted = batch.targets.cls.to(outputs.classes.device)
            loss = functional.cross_entropy(outputs.classes.float(), wanted)
            return {"cls": gain * loss}
        for kind, logits in outputs.heads.items():
            prototypes = prototypes_for(kind, outputs)
            losses = self._labels[kind](logits, prototypes, batch.targets, batch.extra)
            found = {name: gain * value for name, value in losses.items()}
            parts.update(named(found, kind, outputs.heads))
        return parts
