from .comparison import Comparison, read_comparison

__all__ = ["Comparison", "read_comparison"]
