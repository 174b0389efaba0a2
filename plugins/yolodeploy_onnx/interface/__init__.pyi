from .cutting import candidates, selecting
from .layouts import Form, Unclear, common, end_in_common, recognise, strides
from .model import Model, ancestors, attribute
from .preprocess import prepared, take_plain_images

__all__ = [
    "Form",
    "Model",
    "Unclear",
    "ancestors",
    "attribute",
    "candidates",
    "common",
    "end_in_common",
    "prepared",
    "recognise",
    "selecting",
    "strides",
    "take_plain_images",
]
