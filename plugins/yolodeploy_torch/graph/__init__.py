"""A model as a graph of typed primitives: the format, its checks, and the module that computes it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
