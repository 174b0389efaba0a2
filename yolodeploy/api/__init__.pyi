from .batch import Ended, Failures, Results
from .built import Built, build
from .checked import Checked, check
from .deployed import Result, deploy
from .logged import LoggedRun, log_mlflow, require_mlflow
from .planned import Plan, PlanStep, plan
from .remeasured import Proof, remeasure
from .searched import Searched, search
from .session import Session, chosen_host
from .verified import Verified, verify

__all__ = [
    "Built",
    "Checked",
    "Ended",
    "Failures",
    "LoggedRun",
    "Plan",
    "PlanStep",
    "Proof",
    "Result",
    "Results",
    "Searched",
    "Session",
    "Verified",
    "build",
    "check",
    "chosen_host",
    "deploy",
    "log_mlflow",
    "plan",
    "remeasure",
    "require_mlflow",
    "search",
    "verify",
]
