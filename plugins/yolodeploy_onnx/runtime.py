"""Runs an ONNX file in ONNX Runtime on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from yolodeploy.backend import ONNX_FILE, Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.system import cpu_name

_SEVERE = 4
Floats = NDArray[np.float32]


def _session(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _SEVERE
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def output_of(model: ModelProto, images: Floats) -> Floats:
    """What a detector with the common interface gives for images `[1, channels, H, W]`."""
    session = _session(model.SerializeToString(), 1)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0], np.float32)


class OnnxPredictor:
    """An opened detector for one image at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        path = folder / ONNX_FILE
        try:
            self._session = _session(path.read_bytes(), threads)
        except Exception as error:  # onnxruntime has a class for every kind of fault
            raise StepFailed(
                f"{path} cannot be opened ({type(error).__name__}). Build it again."
            ) from error
        self.runtime = Runtime("ONNX Runtime", onnxruntime.__version__, cpu_name(), threads)

    def __call__(self, images: Floats) -> Floats:
        """Map [N, channels, H, W] in 0..1 to [N, 4 + classes, anchors]."""
        name = self._session.get_inputs()[0].name
        found = [self._session.run(None, {name: image[None]})[0] for image in images]
        return np.concatenate(found).astype(np.float32)
