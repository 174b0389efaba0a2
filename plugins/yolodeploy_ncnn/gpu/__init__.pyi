from .device import Gpu, gpu_here, require_gpu
from .placement import Placement, note, on_target, placement

__all__ = ["Gpu", "Placement", "gpu_here", "note", "on_target", "placement", "require_gpu"]
