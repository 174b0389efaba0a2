from .predictor import NcnnPredictor, output_shapes, refuse_foreign, remote

__all__ = ["NcnnPredictor", "output_shapes", "refuse_foreign", "remote"]
