from .quantize import TOOLS, probe_quantize, run_quantize

__all__ = ["TOOLS", "probe_quantize", "run_quantize"]
