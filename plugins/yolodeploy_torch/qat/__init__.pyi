from .qat import qat
from .step_order import fits_qat

__all__ = ["fits_qat", "qat"]
