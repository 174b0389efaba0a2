"""Makes what plans need as jobs: plain data that this process, a child or a cluster works on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
