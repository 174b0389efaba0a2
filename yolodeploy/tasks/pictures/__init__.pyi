from .choice import MAX_SAMPLES, MAX_WORST, Choice, choose
from .picture import MAX_PICTURES, Picture, Pictures
from .reading import parse_pictures, read_pictures
from .taking import take_pictures

__all__ = [
    "MAX_PICTURES",
    "MAX_SAMPLES",
    "MAX_WORST",
    "Choice",
    "Picture",
    "Pictures",
    "choose",
    "parse_pictures",
    "read_pictures",
    "take_pictures",
]
