from .classify import Classify

__all__ = ["Classify"]
