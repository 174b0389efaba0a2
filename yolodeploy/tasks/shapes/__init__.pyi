from .marks import Marks, marks_of
from .shape import MAX_NAME, Line, Mark, Point, Shape, class_name, point
from .tables import box_outlines, shapes_of

__all__ = [
    "MAX_NAME",
    "Line",
    "Mark",
    "Marks",
    "Point",
    "Shape",
    "box_outlines",
    "class_name",
    "marks_of",
    "point",
    "shapes_of",
]
