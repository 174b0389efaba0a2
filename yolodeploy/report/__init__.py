"""What is known about a build, as report.json, as a table on the terminal, and as pages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
