"""The recipe file: YAML with positions, its fields, and what it may read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
