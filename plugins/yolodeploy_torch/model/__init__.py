"""The model: as a table of layers, as a PyTorch module, and ready for export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
