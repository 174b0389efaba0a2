from .compress import compress_weights, probe_weights

__all__ = ["compress_weights", "probe_weights"]
