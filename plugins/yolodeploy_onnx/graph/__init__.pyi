from .head import with_head
from .lowering import NoPrimitive, lowered
from .merging import merged
from .structure import Structure, marked, passed_on_parts

__all__ = [
    "NoPrimitive",
    "Structure",
    "lowered",
    "marked",
    "merged",
    "passed_on_parts",
    "with_head",
]
