from .found import COEFFICIENTS, Segments
from .labels import SegmentTruth
from .masks import Masks
from .task import Segment

__all__ = ["COEFFICIENTS", "Masks", "Segment", "SegmentTruth", "Segments"]
