from .inputs import forgetful, require_unchanged, require_views
from .lock import Lock, LockFile, differences, lock_of, read_lock
from .plan import (
    Plan,
    PlannedStep,
    described_target,
    gpu_here,
    named_target,
    problem_here,
    require_gpu,
)
from .planner import Planner, plan_recipe
from .possible import Option, Possible, possibilities
from .views import calibration_count, check_names, label_warnings

__all__ = [
    "Lock",
    "LockFile",
    "Option",
    "Plan",
    "PlannedStep",
    "Planner",
    "Possible",
    "calibration_count",
    "check_names",
    "described_target",
    "differences",
    "forgetful",
    "gpu_here",
    "label_warnings",
    "lock_of",
    "named_target",
    "plan_recipe",
    "possibilities",
    "problem_here",
    "read_lock",
    "require_gpu",
    "require_unchanged",
    "require_views",
]
