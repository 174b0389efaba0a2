from .classify import Classify
from .contract import postprocess

__all__ = [
    "Classify",
    "postprocess",
]
