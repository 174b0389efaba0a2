from .classify.classify import Classify
from .contracts import postprocess_of
from .evaluate import Floats, Run, Seen, evaluate
from .findings import Findings, Recorder, compared, read_findings
from .golden import Golden
from .measures import (
    USUAL,
    Key,
    Measure,
    grouped,
    one,
    percent,
    plain_measures,
    read_measures,
    six_digits,
)
from .obb.obb import Obb
from .registry import task_of
from .tally import Tally, accuracy, primary_score, required_score, scores
from .task import Task
from .thresholds import APP, BEST_CLASSES, COMPARED, EVALUATION, Rules, app_rules, evaluation_rules
from .wording import COLUMNS, FINDINGS, TITLES, difference_name, golden_file

__all__ = [
    "APP",
    "BEST_CLASSES",
    "COLUMNS",
    "COMPARED",
    "EVALUATION",
    "FINDINGS",
    "TITLES",
    "USUAL",
    "Classify",
    "Findings",
    "Floats",
    "Golden",
    "Key",
    "Measure",
    "Obb",
    "Recorder",
    "Rules",
    "Run",
    "Seen",
    "Tally",
    "Task",
    "accuracy",
    "app_rules",
    "compared",
    "difference_name",
    "evaluate",
    "evaluation_rules",
    "golden_file",
    "grouped",
    "one",
    "percent",
    "plain_measures",
    "postprocess_of",
    "primary_score",
    "read_findings",
    "read_measures",
    "required_score",
    "scores",
    "six_digits",
    "task_of",
]
