"""What was found in an image, or labelled, as shapes: plain data that a page draws without knowing the task."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
