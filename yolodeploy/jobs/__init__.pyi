from .host import Here, Host
from .job import Fault, Job, Outcome, What, Work
from .local import LocalChild
from .recipes import Result, make_recipes

__all__ = [
    "Fault",
    "Here",
    "Host",
    "Job",
    "LocalChild",
    "Outcome",
    "Result",
    "What",
    "Work",
    "make_recipes",
]
