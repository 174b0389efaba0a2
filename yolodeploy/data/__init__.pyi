from .counts import Counts
from .dataset import TASKS, load_view, read_class_names, survey_view
from .images import Letterboxed, Pixels, letterboxed_file, read_image, to_tensor
from .keypoints import KeypointShape
from .label_rows import Box, Corners, Label, Polygon, Pose
from .labels import label_file
from .names import numbers_of, same_name
from .selection import Dataset
from .survey import image_faults

__all__ = [
    "TASKS",
    "Box",
    "Corners",
    "Counts",
    "Dataset",
    "KeypointShape",
    "Label",
    "Letterboxed",
    "Pixels",
    "Polygon",
    "Pose",
    "image_faults",
    "label_file",
    "letterboxed_file",
    "load_view",
    "numbers_of",
    "read_class_names",
    "read_image",
    "same_name",
    "survey_view",
    "to_tensor",
]
