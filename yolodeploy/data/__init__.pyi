from .dataset import Box, Dataset, label_file, load_view
from .images import FILL, Letterboxed, Pixels, letterboxed_file, to_tensor

__all__ = [
    "FILL",
    "Box",
    "Dataset",
    "Letterboxed",
    "Pixels",
    "label_file",
    "letterboxed_file",
    "load_view",
    "to_tensor",
]
