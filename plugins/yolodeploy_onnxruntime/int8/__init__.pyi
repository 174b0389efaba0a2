from .quantize import probe_quantize, run_quantize
from .rounding import closest

__all__ = ["closest", "probe_quantize", "run_quantize"]
