from .load import facts, load, read_checkpoint_model
from .ultralytics import read_values

__all__ = ["facts", "load", "read_checkpoint_model", "read_values"]
