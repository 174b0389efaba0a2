from .contract import pose_postprocess
from .found import Poses
from .matching import PoseTruth, spreads
from .task import Pose

__all__ = [
    "Pose",
    "PoseTruth",
    "Poses",
    "pose_postprocess",
    "spreads",
]
