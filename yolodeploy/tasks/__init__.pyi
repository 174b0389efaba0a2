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
from .task import Task
from .thresholds import APP, COMPARED, EVALUATION, Rules

__all__ = [
    "APP",
    "COMPARED",
    "EVALUATION",
    "USUAL",
    "Key",
    "Measure",
    "Rules",
    "Task",
    "grouped",
    "one",
    "percent",
    "plain_measures",
    "read_measures",
    "six_digits",
]
