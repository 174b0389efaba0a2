from .accuracy import Seen, Tally, accuracy, evaluate, map50_95, required_score, scores
from .golden import Golden
from .noise import output_noise
from .postprocess import Floats, load_detections, save_detections
from .thresholds import APP

__all__ = [
    "APP",
    "Floats",
    "Golden",
    "Seen",
    "Tally",
    "accuracy",
    "evaluate",
    "load_detections",
    "map50_95",
    "output_noise",
    "required_score",
    "save_detections",
    "scores",
]
