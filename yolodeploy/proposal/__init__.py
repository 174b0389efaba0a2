"""From a checkpoint to recipes that can be deployed as they are: what `yolodeploy init` proposes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
