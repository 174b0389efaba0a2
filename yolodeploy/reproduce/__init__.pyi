from .reproduce import reproduce
from .variations import vary

__all__ = ["reproduce", "vary"]
