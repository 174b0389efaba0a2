"""Where an artifact is measured: on this machine, or on another one that a hosts.toml names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
