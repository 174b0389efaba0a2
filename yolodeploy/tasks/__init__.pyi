from .classify.classify import Classify
from .contracts import postprocess_of
from .evaluate import Floats, Run, Seen, evaluate
from .findings import Findings, Recorder, compared, read_findings
from .golden import Golden
from .measures import (
    USUAL,
    Curve,
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
from .pictures.choice import Choice, choose
from .pictures.picture import MAX_PICTURES, Picture, Pictures
from .pictures.reading import parse_pictures, read_pictures
from .pictures.taking import take_pictures
from .registry import task_of
from .shapes.shape import Mark, Shape
from .tally import UNLABELLED, Tally, accuracy, primary_score, required_score, scores
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
    "MAX_PICTURES",
    "TITLES",
    "UNLABELLED",
    "USUAL",
    "Choice",
    "Classify",
    "Curve",
    "Findings",
    "Floats",
    "Golden",
    "Key",
    "Mark",
    "Measure",
    "Obb",
    "Picture",
    "Pictures",
    "Recorder",
    "Rules",
    "Run",
    "Seen",
    "Shape",
    "Tally",
    "Task",
    "accuracy",
    "app_rules",
    "choose",
    "compared",
    "difference_name",
    "evaluate",
    "evaluation_rules",
    "golden_file",
    "grouped",
    "one",
    "parse_pictures",
    "percent",
    "plain_measures",
    "postprocess_of",
    "primary_score",
    "read_findings",
    "read_measures",
    "read_pictures",
    "required_score",
    "scores",
    "six_digits",
    "take_pictures",
    "task_of",
]
