"""The step `quantize`: convolutions that compute in 8-bit integers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
