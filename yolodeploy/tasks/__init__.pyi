from .evaluate import Floats, Run, Seen, evaluate
from .findings import Findings, Recorder, compared, read_findings
from .golden import FOLDER, Golden, golden_file
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
from .registry import task_of
from .tally import Tally, accuracy, primary_score, required_score, scores
from .task import Task
from .thresholds import APP, COMPARED, EVALUATION, Rules
from .wording import COLUMNS, FINDINGS, TITLES, difference_name

__all__ = [
    "APP",
    "COLUMNS",
    "COMPARED",
    "EVALUATION",
    "FINDINGS",
    "FOLDER",
    "TITLES",
    "USUAL",
    "Findings",
    "Floats",
    "Golden",
    "Key",
    "Measure",
    "Recorder",
    "Rules",
    "Run",
    "Seen",
    "Tally",
    "Task",
    "accuracy",
    "compared",
    "difference_name",
    "evaluate",
    "golden_file",
    "grouped",
    "one",
    "percent",
    "plain_measures",
    "primary_score",
    "read_findings",
    "read_measures",
    "required_score",
    "scores",
    "six_digits",
    "task_of",
]
