from .load import load, read_checkpoint_model
from .ultralytics import read_values

__all__ = ["load", "read_checkpoint_model", "read_values"]
