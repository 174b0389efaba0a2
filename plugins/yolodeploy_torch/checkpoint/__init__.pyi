from .load import load, read_checkpoint_model, read_values
from .reading import facts

__all__ = ["facts", "load", "read_checkpoint_model", "read_values"]
