"""The distance of a student from what its teacher gives: what the heads give, and the maps that they read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Classification, Detection, Graph, OpenHead
from yolodeploy_torch.losses import (
    Anchors,
    Masks,
    Weights,
    angle_response,
    boxes_of,
    class_response,
    distance_loss,
    feature_loss,
    keypoint_responses,
    mask_response,
    output_losses,
    score_loss,
    side_loss,
)
from yolodeploy_torch.model import Logits, Outputs, Trainable, features
from yolodeploy_torch.params import Gains

Parts = dict[str, Tensor]


class Teaching:
    """What a student lacks to its teacher, times `gains`: in what every head gives, and in features.

    `adapters` are the 1x1 convolutions from the student's features to the teacher's. The teacher has the student's
    task, classes and strides, and any head; raises ModelError if that teaches a head nothing.
    """

    def __init__(
        self, student: Graph, teacher: GraphModule, gains: Gains, imgsz: ImageShape, device: str
    ) -> None:
        teacher.to(device).to(memory_format=torch.channels_last)
        self._teacher = Trainable(teacher, opened=isinstance(student.head, OpenHead))
        self._gains, self._imgsz, self._head = gains, imgsz, student.head
        require_comparable(student, self._teacher.graph, gains, imgsz)
        self._anchors = Anchors(student.head.strides)
        self.adapters = nn.ModuleList()
        if gains.feature:
            self.adapters = _adapters(student, self._teacher.graph, imgsz)

    def __call__(self, images: Tensor, ours: Outputs) -> Parts:
        """The parts of the loss of what the student gives for these images."""
        parts, gains = Parts(), self._gains
        if not (gains.response or gains.feature):
            return parts
        with torch.no_grad():
            theirs = self._teacher(images)
        if gains.response:
            parts = {name: gains.response * value for name, value in self._responses(ours, theirs)}
        if gains.feature:
            pairs = zip(self.adapters, ours.features, strict=True)
            adapted = [adapt(level) for adapt, level in pairs]
            parts["features"] = gains.feature * feature_loss(
                adapted, theirs.features, _cell_weights(theirs)
            )
        return parts

    def _responses(self, ours: Outputs, theirs: Outputs) -> Iterable[tuple[str, Tensor]]:
        for kind in (kind for kind in ours.heads if kind in theirs.heads):
            found = _responses(ours.heads[kind], theirs.heads[kind])
            found.update(self._extras(kind, ours, theirs))
            yield from named(found, kind, ours.heads).items()
        if ours.output is not None and theirs.output is not None:
            yield from output_losses(ours.output, theirs.output)._asdict().items()
        if ours.classes is not None and theirs.classes is not None:
            yield "classes", class_response(ours.classes, theirs.classes)

    def _extras(self, kind: Head, ours: Outputs, theirs: Outputs) -> Parts:
        """How far apart what a head gives beside boxes and scores is."""
        head, student, teacher = self._head, ours.heads[kind], theirs.heads[kind]
        if not isinstance(head, Detection) or head.task == "detect":
            return {}
        weights = Weights.of(teacher)
        if head.task == "obb":
            return {"angles": angle_response(student, teacher, weights)}
        grid = self._anchors(self._imgsz, weights.anchors.device)
        if head.kpt_shape is not None:
            return keypoint_responses(student, teacher, head.kpt_shape, grid, weights)
        shown = Masks.of(student, prototypes_for(kind, ours))
        wanted = Masks.of(teacher, theirs.prototypes)
        step = self._imgsz.width / wanted.prototypes.shape[3]
        return {"masks": mask_response(shown, wanted, boxes_of(teacher, grid, step), weights)}


def prototypes_for(kind: Head, outputs: Outputs) -> Tensor | None:
    """The prototypes that a head's masks are made of; of two heads only that of many boxes trains them."""
    shared = outputs.prototypes
    if shared is not None and kind == "one-to-one" and len(outputs.heads) > 1:
        return shared.detach()
    return shared


def named(parts: Parts, kind: Head, heads: Iterable[Head]) -> Parts:
    """The parts, with the name of the head where there are two."""
    alone = len(list(heads)) == 1
    return parts if alone else {f"{kind} {name}": value for name, value in parts.items()}


def _responses(ours: Logits, theirs: Logits) -> Parts:
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
    return Weights.of(teacher).levels


def _cell_weights(teacher: Outputs) -> list[Tensor]:
    """How much every cell of the maps counts: all the same where it is not known which anchors they make."""
    if not teacher.heads:
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
    if isinstance(student.head, Classification):
        return
    if isinstance(student.head, Detection):
        require_same_heads(student.head, teacher.detection, gains)
        _require_same_masks(student, teacher, gains, imgsz)
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


def _require_same_masks(student: Graph, teacher: Graph, gains: Gains, imgsz: ImageShape) -> None:
    """Raise ModelError if the masks of one have other pixels than those of the other."""
    sizes = [mask_size(graph, imgsz) for graph in (student, teacher)]
    if gains.response and sizes[0] != sizes[1]:
        ours, theirs = (" x ".join(map(str, size or ())) for size in sizes)
        raise ModelError(
            f"the teacher gives masks of {theirs} pixels, the model of {ours}, so that they cannot be compared. Use a "
            "teacher with the prototypes of the model, or write response: 0 to compare features alone."
        )


def mask_size(graph: Graph, imgsz: ImageShape) -> tuple[int, int] | None:
    """Height and width of the prototypes of a model for images of this size; None if it has none."""
    if not isinstance(graph.head, Detection) or graph.head.prototypes is None:
        return None
    height, width = graph.shapes(imgsz.height, imgsz.width)[graph.head.prototypes][2:]
    return height, width


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
