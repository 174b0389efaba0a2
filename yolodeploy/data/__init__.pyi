from .dataset import Counts, Dataset, load_view, survey_view
from .images import Letterboxed, Pixels, letterboxed_file, to_tensor
from .labels import Box, label_file
from .names import numbers_of, same_name
from .survey import image_faults

__all__ = [
    "Box",
    "Counts",
    "Dataset",
    "Letterboxed",
    "Pixels",
    "image_faults",
    "label_file",
    "letterboxed_file",
    "load_view",
    "numbers_of",
    "same_name",
    "survey_view",
    "to_tensor",
]
