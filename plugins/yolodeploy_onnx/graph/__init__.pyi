from .classifier import classification
from .head import Wanted, finished, told_apart, with_head
from .lowering import NoPrimitive, lowered
from .merging import merged
from .structure import Structure, marked, passed_on_parts

__all__ = [
    "NoPrimitive",
    "Structure",
    "Wanted",
    "classification",
    "finished",
    "lowered",
    "marked",
    "merged",
    "passed_on_parts",
    "told_apart",
    "with_head",
]
