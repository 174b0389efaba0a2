from .classify import Classify
from .contract import classify_postprocess

__all__ = [
    "Classify",
    "classify_postprocess",
]
