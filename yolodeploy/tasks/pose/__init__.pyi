from .found import Poses
from .matching import PoseTruth
from .task import Pose

__all__ = ["Pose", "PoseTruth", "Poses"]
