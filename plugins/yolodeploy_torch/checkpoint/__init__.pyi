from .inspection import inspect_checkpoint
from .load import load, read_checkpoint_model, read_values
from .reading import facts

__all__ = ["facts", "inspect_checkpoint", "load", "read_checkpoint_model", "read_values"]
