"""8-bit integers: what the maps hold, the grids they are rounded to, and the model that is rewritten."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
