"""Several bundles beside each other: what they cost and lose, which are on the front, and what differs in their recipes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
