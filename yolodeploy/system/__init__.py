"""Files, digests, JSON, processes, the terminal: what the rest stands on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
