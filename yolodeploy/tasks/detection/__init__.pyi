from .contract import EXACT_BEST, box_postprocess, exact_postprocess, output_text
from .extras import best_extras, main_part, part_differences
from .files import load_found, save_found
from .matching import box_fits, box_iou, boxes_of, corners_of, sides_of
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
    "box_iou",
    "box_postprocess",
    "boxes_of",
    "choose",
    "corners_of",
    "exact_postprocess",
    "load_found",
    "main_part",
    "output_noise",
    "output_text",
    "pair_rows",
    "part_differences",
    "rows_fault",
    "save_found",
    "sides_of",
    "to_original",
]
