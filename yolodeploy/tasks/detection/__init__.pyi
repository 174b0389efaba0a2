from .accuracy import Tally, accuracy, map50_95, required_score, scores
from .evaluate import Run, Seen, evaluate
from .findings import Findings, Recorder, compared, read_findings
from .golden import Golden
from .noise import output_noise
from .postprocess import Detections, Floats
from .thresholds import APP, COMPARED, EVALUATION

__all__ = [
    "APP",
    "COMPARED",
    "EVALUATION",
    "Detections",
    "Findings",
    "Floats",
    "Golden",
    "Recorder",
    "Run",
    "Seen",
    "Tally",
    "accuracy",
    "compared",
    "evaluate",
    "map50_95",
    "output_noise",
    "read_findings",
    "required_score",
    "scores",
]
