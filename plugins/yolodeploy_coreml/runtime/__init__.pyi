from .executor import Program
from .mil_ops import padding
from .predictors import ExecutorPredictor, Head, open_package, remote

__all__ = ["ExecutorPredictor", "Head", "Program", "open_package", "padding", "remote"]
