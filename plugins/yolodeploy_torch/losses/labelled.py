"""The loss on labels of a head that finds objects, by its task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection
from yolodeploy_torch.losses.assigner import TOP_K
from yolodeploy_torch.losses.detection import DetectionLoss, Targets, corners_of
from yolodeploy_torch.losses.keypoints import keypoint_losses
from yolodeploy_torch.losses.masks import mask_loss
from yolodeploy_torch.losses.rotated import RotatedLoss
from yolodeploy_torch.model import Logits

_TOP_K: Mapping[Head, int] = {"one-to-many": TOP_K, "one-to-one": 1}


class LabelLoss:
    """The loss of one branch of a head; holds no weights."""

    def __init__(self, head: Detection, kind: Head, imgsz: ImageShape) -> None:
        """For images of this size."""
        self._head, self._imgsz = head, imgsz
        self._upright = DetectionLoss(head, _TOP_K[kind])
        self._rotated = RotatedLoss(head, _TOP_K[kind])

    def __call__(
        self, logits: Logits, prototypes: Tensor | None, targets: Targets, extra: Tensor | None
    ) -> dict[str, Tensor]:
        """The parts of the loss; `extra` is what is labelled beside boxes, as `Batch` has it."""
        if self._head.task == "detect":
            return self._upright(logits, targets, self._imgsz)._asdict()
        if extra is None:
            raise ValueError(f"the labels of a model for `{self._head.task}` are more than boxes")
        if self._head.task == "obb":
            return self._rotated(logits, targets, extra, self._imgsz)._asdict()
        losses, positives = self._upright.assigned(logits, targets, self._imgsz)
        parts, matches = losses._asdict(), positives.matches
        device = matches.box.device
        boxes, extra = corners_of(targets.boxes.to(device), self._imgsz), extra.to(device)
        if self._head.kpt_shape is not None:
            shape = self._head.kpt_shape
            return {**parts, **keypoint_losses(logits, shape, extra, boxes, matches)}
        if prototypes is not None:
            inner = boxes * (prototypes.shape[3] / self._imgsz.width)
            parts["mask"] = mask_loss(logits.extra, prototypes, extra, inner, matches)
        return parts
