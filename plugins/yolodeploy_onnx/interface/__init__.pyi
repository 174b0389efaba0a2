from .cutting import candidates, selecting
from .form import Form
from .layouts import common, end_in_common, recognise, strides
from .model import Model, ancestors, attribute
from .preprocess import prepared, take_plain_images
from .purpose import Purpose, Unclear, purpose

__all__ = [
    "Form",
    "Model",
    "Purpose",
    "Unclear",
    "ancestors",
    "attribute",
    "candidates",
    "common",
    "end_in_common",
    "prepared",
    "purpose",
    "recognise",
    "selecting",
    "strides",
    "take_plain_images",
]
