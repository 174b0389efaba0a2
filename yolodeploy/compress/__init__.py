"""What several backends share: layer names and costs, the choice of layers, codebooks, learned ranges."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
