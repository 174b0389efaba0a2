"""From nodes of ONNX to the graph of primitives, its parts and its head."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
