"""A look at a file in a process of its own: checked, simplified, run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
