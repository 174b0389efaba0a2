from .accuracy import Tally, accuracy, map50_95, required_score, scores
from .evaluate import Run, Seen, evaluate
from .findings import Findings, Recorder, compared, read_findings
from .golden import Golden, output_text
from .noise import output_noise
from .postprocess import Detections, Floats
from .rows import rows_fault

__all__ = [
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
    "output_text",
    "read_findings",
    "required_score",
    "rows_fault",
    "scores",
]
