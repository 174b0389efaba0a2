"""A network on a Vulkan device: the one of this machine, and which layers run there."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
