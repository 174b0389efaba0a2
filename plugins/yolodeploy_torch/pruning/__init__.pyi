from .prune import prune

__all__ = ["prune"]
