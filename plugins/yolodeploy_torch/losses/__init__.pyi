from .anchors import Anchors
from .assigner import TOP_K
from .detection import DetectionLoss, Targets
from .distillation import distance_loss, feature_loss, output_losses, score_loss, side_loss
from .responses import (
    Masks,
    Weights,
    angle_loss,
    boxes_of,
    class_loss,
    keypoint_losses,
    mask_loss,
)

__all__ = [
    "TOP_K",
    "Anchors",
    "DetectionLoss",
    "Masks",
    "Targets",
    "Weights",
    "angle_loss",
    "boxes_of",
    "class_loss",
    "distance_loss",
    "feature_loss",
    "keypoint_losses",
    "mask_loss",
    "output_losses",
    "score_loss",
    "side_loss",
]
