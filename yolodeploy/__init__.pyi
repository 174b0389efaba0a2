from .api.batch import Failures, Results
from .api.built import Built, build
from .api.checked import Checked, check
from .api.compared import Compared, compare
from .api.deployed import Result, deploy
from .api.logged import LoggedRun, log_mlflow
from .api.planned import Plan, PlanStep, plan
from .api.proposed import Proposed, init
from .api.remeasured import Proof, remeasure
from .api.searched import Searched, search
from .api.session import Session
from .api.verified import Verified, verify

__version__: str

__all__ = [
    "Built",
    "Checked",
    "Compared",
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
    "compare",
    "deploy",
    "init",
    "log_mlflow",
    "plan",
    "remeasure",
    "search",
    "verify",
]
