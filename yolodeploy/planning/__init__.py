"""From a recipe to a plan: every step resolved, every input named by its digest; and the lock file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
