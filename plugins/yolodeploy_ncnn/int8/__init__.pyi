from .quantize import probe_quantize, run_quantize

__all__ = ["probe_quantize", "run_quantize"]
