"""Open and describe an artifact with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from yolodeploy.backend import Interface, Runtime, Tensor
from yolodeploy.errors import StepFailed
from yolodeploy.system import cpu_name

FILE = "model.onnx"
DAMAGED = (
    *(faults.Fail, faults.InvalidArgument, faults.InvalidGraph),
    *(faults.InvalidProtobuf, faults.NoSuchFile),
)


class OnnxPredictor:
    """An opened artifact. The file has a batch size of one, so it runs images one by one."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._session = _open(folder, threads)
        version = onnxruntime.__version__
        self.runtime = Runtime("ONNX Runtime", version, cpu_name(), threads)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run images `[N, 3, H, W]` in 0..1; return `[N, 4 + classes, anchors]`."""
        return np.concatenate([self._session.run(None, {"images": i[None]})[0] for i in images])


def interface(folder: Path) -> Interface:
    """Read names and shapes of inputs and outputs from the file."""
    session = _open(folder, threads=1)
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    colours = "grey" if image.shape[1] == 1 else "RGB"
    return Interface(
        entry=FILE,
        inputs=(Tensor(image.name, tuple(image.shape), "float32", f"{colours}, 0..1"),),
        outputs=(Tensor(output.name, tuple(output.shape), "float32", "xywh, then scores"),),
        scale=1 / 255,
    )


def _open(folder: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = folder / FILE
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except DAMAGED as error:
        raise StepFailed(f"{path} cannot be opened: {error}. Build it again.") from error
