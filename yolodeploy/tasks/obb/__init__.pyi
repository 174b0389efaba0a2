from .boxes import Rotated, prob_iou, to_corners
from .contract import obb_postprocess
from .labels import Truth, smallest_rectangle
from .obb import Obb

__all__ = [
    "Obb",
    "Rotated",
    "Truth",
    "obb_postprocess",
    "prob_iou",
    "smallest_rectangle",
    "to_corners",
]
