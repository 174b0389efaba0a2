from .boxes import Rotated, prob_iou, to_corners
from .contract import postprocess
from .labels import Truth
from .obb import Obb

__all__ = [
    "Obb",
    "Rotated",
    "Truth",
    "postprocess",
    "prob_iou",
    "to_corners",
]
