from .cluster import RayCluster
from .executor import Executor, Here, is_cluster
from .graph import plan_job
from .job import Fault, Job, Outcome, What, Work
from .local import LocalChild
from .recipes import Result, make_recipes

__all__ = [
    "Executor",
    "Fault",
    "Here",
    "Job",
    "LocalChild",
    "Outcome",
    "RayCluster",
    "Result",
    "What",
    "Work",
    "is_cluster",
    "make_recipes",
    "plan_job",
]
