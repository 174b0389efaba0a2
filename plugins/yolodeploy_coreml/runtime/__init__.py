"""Run a package: in Core ML on a Mac, elsewhere op by op in PyTorch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
