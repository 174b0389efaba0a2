from .boxes import Rotated, prob_iou, to_corners
from .labels import Truth
from .obb import Obb

__all__ = ["Obb", "Rotated", "Truth", "prob_iou", "to_corners"]
