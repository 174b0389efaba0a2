"""Pictures: images with what is labelled in them, and what source and artifact found; the file `pictures.json`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
