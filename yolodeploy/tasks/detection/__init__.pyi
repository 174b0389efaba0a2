from .contract import EXACT_BEST, box_postprocess, exact_postprocess, output_text
from .drawing import colour_of, draw_boxes, line_width, write
from .extras import best_extras, main_part, part_differences
from .matching import box_fits, boxes_of
from .noise import TINY, Noise, output_noise
from .postprocess import Detections, Floats, choose, to_original
from .rows import Paired, pair_rows, rows_fault
from .task import Detect

__all__ = [
    "EXACT_BEST",
    "TINY",
    "Detect",
    "Detections",
    "Floats",
    "Noise",
    "Paired",
    "best_extras",
    "box_fits",
    "box_postprocess",
    "boxes_of",
    "choose",
    "colour_of",
    "draw_boxes",
    "exact_postprocess",
    "line_width",
    "main_part",
    "output_noise",
    "output_text",
    "pair_rows",
    "part_differences",
    "rows_fault",
    "to_original",
    "write",
]
