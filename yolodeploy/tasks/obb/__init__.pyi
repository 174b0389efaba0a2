from .boxes import Rotated, prob_iou, to_corners
from .contract import obb_postprocess
from .labels import Truth
from .obb import Obb

__all__ = [
    "Obb",
    "Rotated",
    "Truth",
    "obb_postprocess",
    "prob_iou",
    "to_corners",
]
