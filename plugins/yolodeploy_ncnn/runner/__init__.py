"""The runner: a C++ program for machines without Python (`cpp/`), the script that builds it, its files (`README.md`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
