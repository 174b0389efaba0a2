from .contract import COEFFICIENTS, segment_postprocess
from .found import Segments
from .labels import SegmentTruth
from .masks import Masks
from .task import Segment

__all__ = [
    "COEFFICIENTS",
    "Masks",
    "Segment",
    "SegmentTruth",
    "Segments",
    "segment_postprocess",
]
