from .batch import Ended, Failures, Results
from .built import Built, build
from .checked import Checked, check
from .compared import Compared, compare
from .deployed import Result, deploy
from .logged import LoggedRun, log_mlflow, require_mlflow
from .planned import Plan, PlanStep, plan
from .proposed import Proposed, init
from .remeasured import Proof, remeasure
from .searched import Searched, search
from .session import Session, chosen_host
from .verified import Verified, verify

__all__ = [
    "Built",
    "Checked",
    "Compared",
    "Ended",
    "Failures",
    "LoggedRun",
    "Plan",
    "PlanStep",
    "Proof",
    "Proposed",
    "Result",
    "Results",
    "Searched",
    "Session",
    "Verified",
    "build",
    "check",
    "chosen_host",
    "compare",
    "deploy",
    "init",
    "log_mlflow",
    "plan",
    "remeasure",
    "require_mlflow",
    "search",
    "verify",
]
