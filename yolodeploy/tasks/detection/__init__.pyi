from .contract import box_postprocess
from .drawing import colour_of, line_width, write
from .noise import output_noise
from .postprocess import Detections, Floats
from .rows import Paired, pair_rows, rows_fault
from .task import Detect

__all__ = [
    "Detect",
    "Detections",
    "Floats",
    "Paired",
    "box_postprocess",
    "colour_of",
    "line_width",
    "output_noise",
    "pair_rows",
    "rows_fault",
    "write",
]
