from .noise import output_noise
from .postprocess import Detections, Floats
from .rows import rows_fault
from .task import Detect

__all__ = ["Detect", "Detections", "Floats", "output_noise", "rows_fault"]
