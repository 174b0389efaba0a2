"""The attestation documents of a bundle: provenance, bill of materials, model card, signature."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
