from .cluster import RayCluster
from .executor import Executor, Here, Kept, is_cluster
from .graph import plan_job, work_of
from .job import Fault, Goal, Job, Outcome, What, Work
from .local import LocalChild
from .recipes import Result, make_recipes

__all__ = [
    "Executor",
    "Fault",
    "Goal",
    "Here",
    "Job",
    "Kept",
    "LocalChild",
    "Outcome",
    "RayCluster",
    "Result",
    "What",
    "Work",
    "is_cluster",
    "make_recipes",
    "plan_job",
    "work_of",
]
