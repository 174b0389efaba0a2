"""What the maps of a model hold on the calibration images, from one pass over them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_onnxruntime.model_file import IMAGES, set_batch
from yolodeploy_onnxruntime.toolchain import session

if TYPE_CHECKING:
    from yolodeploy.backend import Context
    from yolodeploy.data import Dataset

Floats = NDArray[np.float32]
_SAMPLES = 1 << 17  # of a map over all images
_MOST = 8192  # of one image


@dataclass
class Statistics:
    """The least and greatest value of a map, evenly spaced samples of it, and its pixels in one image."""

    low: float = 0.0
    high: float = 0.0
    pixels: int = 1
    parts: list[Floats] = field(default_factory=list)

    @property
    def samples(self) -> Floats:
        """Samples of all images."""
        return np.concatenate(self.parts)


def observe(
    model: onnx.ModelProto, values: Sequence[str], view: Dataset, context: Context
) -> dict[str, Statistics]:
    """Statistics of these values of a float model; raises StepFailed for values that are not finite."""
    found = {value: Statistics() for value in values}
    most = min(_MOST, max(_SAMPLES // len(view), 64))
    for made in run(model, values, view, context):
        for value, array in zip(values, made, strict=True):
            _add(found[value], array, most, value)
    return found


def run(
    model: onnx.ModelProto, values: Sequence[str], view: Dataset, context: Context
) -> Iterator[list[Floats]]:
    """These values of a float model for every image of a view."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    set_batch(copy, 1)  # ranges must not depend on the batch of the artifact
    del copy.graph.output[:]
    for value in values:
        made = onnx.ValueInfoProto(name=value)
        made.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        copy.graph.output.append(made)
    opened = session(copy.SerializeToString(), "calibrate this model", context.threads)
    total = len(view)
    for number, image in enumerate(view.letterboxed(context.imgsz)):
        context.progress(0.9 * number / total, f"{number}/{total} calibration images")
        yield opened.run(list(values), {IMAGES: image})


def _add(statistics: Statistics, array: Floats, most: int, value: str) -> None:
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise StepFailed(
            f"{value} is not finite on a calibration image. Calibrate on other images, or use `w8`, which "
            "keeps float arithmetic."
        )
    statistics.low, statistics.high = min(statistics.low, low), max(statistics.high, high)
    flat = array.ravel()
    # An odd step meets all columns and channels of a map, whose sizes are even.
    step = max(flat.size // most, 1) | 1
    statistics.parts.append(flat[::step].copy())
    statistics.pixels = flat.size // array.shape[1] if array.ndim == 4 else flat.size
