"""What a training minimises: the loss on the labels, and the distance from what a teacher gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection, Graph, OpenHead
from yolodeploy_torch.model import Logits, Outputs, Trainable, features
from yolodeploy_torch.params import Gains, Training
from yolodeploy_torch.training.assigner import TOP_K
from yolodeploy_torch.training.batches import Batch
from yolodeploy_torch.training.detection_loss import DetectionLoss
from yolodeploy_torch.training.distillation import (
    distance_loss,
    feature_loss,
    output_losses,
    score_loss,
    side_loss,
)

_TOP_K: Mapping[Head, int] = {"one-to-many": TOP_K, "one-to-one": 1}
_Parts = dict[str, Tensor]


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
    to the teacher's, which are trained with the student and then dropped. The teacher has the student's classes and
    strides, and any head; raises ModelError if that teaches a head nothing.
    """

    def __init__(
        self,
        student: Student,
        params: Training,
        imgsz: ImageShape,
        teacher: GraphModule | None = None,
    ) -> None:
        head = student.graph.head
        if student.graph.task != "detect":
            raise ModelError(
                f"only detection models can be trained, and this model is for `{student.graph.task}`."
            )
        self._student, self._gains, self._imgsz = student, params.gains, imgsz
        self._labels = dict[Head, DetectionLoss]()
        if isinstance(head, Detection):
            self._labels = {kind: DetectionLoss(head, _TOP_K[kind]) for kind in head.branches}
        elif params.gains.labels:
            raise ModelError(
                "a loss on labels needs a head that is known, and of this model only the output is. "
                "Write labels: 0"
            )
        self._teacher: Trainable | None = None
        self.adapters = nn.ModuleList()
        if teacher:
            teacher.to(params.device).to(memory_format=torch.channels_last)
            self._teacher = Trainable(teacher, opened=isinstance(head, OpenHead))
            require_comparable(student.graph, self._teacher.graph, params.gains, imgsz)
            if params.gains.feature:
                self.adapters = _adapters(student.graph, self._teacher.graph, imgsz)

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """The parts of the loss, means over the images of the batch."""
        outputs, parts = self._student(batch.images), _Parts()
        if self._gains.labels:
            for kind, logits in outputs.heads.items():
                losses = self._labels[kind](logits, batch.targets, self._imgsz)._asdict()
                found = {name: self._gains.labels * value for name, value in losses.items()}
                parts.update(_named(found, kind, outputs.heads))
        if self._teacher and (self._gains.response or self._gains.feature):
            with torch.no_grad():
                theirs = self._teacher(batch.images)
            parts.update(self._taught(outputs, theirs))
        return parts

    def _taught(self, ours: Outputs, theirs: Outputs) -> _Parts:
        parts, gains = _Parts(), self._gains
        if gains.response:
            for kind in (kind for kind in ours.heads if kind in theirs.heads):
                found = _responses(ours.heads[kind], theirs.heads[kind])
                weighted = {name: gains.response * value for name, value in found.items()}
                parts.update(_named(weighted, kind, ours.heads))
            if ours.output is not None and theirs.output is not None:
                losses = output_losses(ours.output, theirs.output)._asdict()
                parts.update({name: gains.response * value for name, value in losses.items()})
        if gains.feature:
            pairs = zip(self.adapters, ours.features, strict=True)
            adapted = [adapt(level) for adapt, level in pairs]
            parts["features"] = gains.feature * feature_loss(
                adapted, theirs.features, _cell_weights(theirs)
            )
        return parts


def _named(parts: _Parts, kind: Head, heads: Iterable[Head]) -> _Parts:
    """The parts, with the name of the head where there are two."""
    alone = len(list(heads)) == 1
    return parts if alone else {f"{kind} {name}": value for name, value in parts.items()}


def _responses(ours: Logits, theirs: Logits) -> _Parts:
    """How far a head's scores are from the teacher's, and its box sides: as distributions if the bins are the same."""
    weights = _weights(theirs)
    ours_bins, their_bins = ours.boxes[0].shape[1], theirs.boxes[0].shape[1]
    distributions = ours_bins == their_bins and ours_bins > 4
    compare = side_loss if distributions else distance_loss
    return {
        "scores": score_loss(ours.scores, theirs.scores),
        "sides": compare(ours.boxes, theirs.boxes, weights),
    }


def _weights(teacher: Logits) -> list[Tensor]:
    """How much every anchor counts: the teacher's highest score there."""
    return [level.float().sigmoid().amax(1) for level in teacher.scores]


def _cell_weights(teacher: Outputs) -> list[Tensor]:
    """How much every cell of the maps counts: all the same where it is not known which anchors they make."""
    if teacher.output is not None:
        return [torch.ones_like(level[:, 0]) for level in teacher.features]
    return _weights(teacher.heads.get("one-to-many") or teacher.heads["one-to-one"])


def _adapters(student: Graph, teacher: Graph, imgsz: ImageShape) -> nn.ModuleList:
    pairs = zip(_channels(student, imgsz), _channels(teacher, imgsz), strict=True)
    adapters = nn.ModuleList(nn.Conv2d(ours, theirs, 1, bias=False) for ours, theirs in pairs)
    for adapter in adapters:  # no random numbers: channel i starts as the teacher's channel i
        nn.init.dirac_(cast("Tensor", adapter.weight))
    return adapters


def _channels(graph: Graph, imgsz: ImageShape) -> list[int]:
    """Channels of the maps that are compared."""
    shapes = graph.shapes(imgsz.height, imgsz.width)
    return [shapes[value][1] for value in features(graph)]


def require_comparable(student: Graph, teacher: Graph, gains: Gains, imgsz: ImageShape) -> None:
    """Raise ModelError if what the teacher gives cannot be compared with what the student gives."""
    if isinstance(student.head, Detection):
        require_same_heads(student.head, teacher.detection, gains)
        return
    ours, theirs = (
        graph.shapes(imgsz.height, imgsz.width)[graph.output] for graph in (student, teacher)
    )
    if ours != theirs:
        raise ModelError(
            f"the teacher gives {theirs[2]} anchors of {theirs[1]} numbers, the model {ours[2]} of {ours[1]}, so that "
            "their outputs cannot be compared. Leave `teacher` out to learn from the model as it was loaded."
        )
    if gains.feature and not (features(student) and features(student) == features(teacher)):
        raise ModelError(
            "which maps of the teacher belong to which of the model cannot be told from their graphs. "
            "Write feature: 0"
        )


def require_same_heads(student: Detection, teacher: Detection, gains: Gains) -> None:
    """Raise ModelError if the teacher's outputs teach no head of the student, or not all and nothing else does."""
    missing = sorted(student.branches.keys() - teacher.branches.keys())
    if not gains.response or not missing:
        return
    only = f"the teacher has only a {_listed(teacher.branches)} head"
    if len(missing) == len(student.branches):
        raise ModelError(
            f"{only}, the model only a {_listed(student.branches)} one, so that their outputs cannot be compared. "
            "Use a teacher with such a head, or write response: 0 to compare features alone."
        )
    if not gains.labels:
        raise ModelError(
            f"{only}, so that with labels: 0 nothing trains the {_listed(missing)} head of the model. "
            "Raise `labels`, or use a teacher with both heads."
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
