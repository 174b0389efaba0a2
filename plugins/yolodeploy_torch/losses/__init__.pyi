from .anchors import Anchors
from .detection import DetectionLoss, Targets
from .distillation import distance_loss, feature_loss, output_losses, score_loss, side_loss
from .labelled import LabelLoss
from .responses import (
    Masks,
    Weights,
    angle_response,
    boxes_of,
    class_response,
    keypoint_responses,
    mask_response,
)

__all__ = [
    "Anchors",
    "DetectionLoss",
    "LabelLoss",
    "Masks",
    "Targets",
    "Weights",
    "angle_response",
    "boxes_of",
    "class_response",
    "distance_loss",
    "feature_loss",
    "keypoint_responses",
    "mask_response",
    "output_losses",
    "score_loss",
    "side_loss",
]
