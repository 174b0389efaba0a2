"""What an artifact loses and costs against the source model, and the recipe's checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
