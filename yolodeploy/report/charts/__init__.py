"""Charts as static SVG: no script, no request, themed by the page's CSS, with a hover text for every mark."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
