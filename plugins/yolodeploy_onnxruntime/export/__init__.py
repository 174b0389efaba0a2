"""The export: from the graph of primitives, or from a file that is passed on, to one ONNX file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
