"""The Python API: plan, check, build, deploy, measure and verify, as the command line and notebooks call them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
