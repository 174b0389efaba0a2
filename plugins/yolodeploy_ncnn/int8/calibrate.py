"""Statistics of what the convolutions and matrices of a model read, from one pass over the calibration images.

The range of an activation is unknown until the last image, so values are counted in bins that grow
with the value. The bit pattern of a float32 is such a scale by itself (exponent, then mantissa):
dropping all but the first bits of the mantissa leaves 32 bins to an octave, with the same edges for
every layer and image, and counting costs a shift and a bincount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn.layers import EIGHT_BIT, source
from yolodeploy_ncnn.runtime import NcnnPredictor

if TYPE_CHECKING:
    from yolodeploy.backend import Context
    from yolodeploy.data import Dataset
    from yolodeploy_ncnn.model import Model

_FLAT_AXES = (
    2  # of a map with one channel, which ncnn may leave out; what a matrix reads has channels alone
)
_DROPPED = 18  # of the 23 bits of the mantissa
_LOWEST, _HIGHEST = -14, 16  # powers of two: less is as good as 0, more is beyond fp16
BINS = (_HIGHEST - _LOWEST) << (23 - _DROPPED)
_FIRST = (127 + _LOWEST) << (23 - _DROPPED)
EDGES = (np.arange(_FIRST, _FIRST + BINS + 1, dtype=np.int32) << _DROPPED).view(np.float32)


@dataclass
class Statistics:
    """The distribution of one blob's values over all images.

    `counts` int64 `[channels, 2, BINS]`: values from 0 up and values below 0, by magnitude; `sums`
    float64 `[channels]` of the values; `count` of values per channel; `peak`: the largest magnitude.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    count: int = 0
    peak: float = 0.0

    @classmethod
    def of(cls, channels: int) -> Statistics:
        """Statistics without any values."""
        return cls(np.zeros((channels, 2, BINS), np.int64), np.zeros(channels))

    def add(self, blob: NDArray[np.float32]) -> None:
        """Count the values of one image, float32 `[channels, ...]`."""
        channels = len(blob)
        flat = np.ascontiguousarray(blob).reshape(channels, -1)
        self.sums += flat.sum(1, dtype=np.float64)
        self.count += flat.shape[1]
        bits = flat.view(np.int32)
        size = bits & 0x7FFFFFFF
        peak = float(size.max().view(np.float32))
        if not peak < EDGES[-1]:  # NaN compares with nothing
            raise StepFailed(
                f"an activation on a calibration image is {peak:g}, more than fp16 can hold. Calibrate on "
                "other images, or use `w8`, which keeps float arithmetic."
            )
        self.peak = max(self.peak, peak)
        bins = np.clip((size >> _DROPPED) - _FIRST, 0, BINS - 1)
        bins += np.where(bits < 0, BINS, 0).astype(np.int32)
        bins += 2 * BINS * np.arange(channels, dtype=np.int32)[:, None]
        found = np.bincount(bins.ravel(), minlength=self.counts.size)
        self.counts += found.reshape(self.counts.shape)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean value of each channel."""
        return self.sums / self.count


def calibrate(loaded: Model, view: Dataset, context: Context) -> dict[str, Statistics]:
    """Run an artifact on the images; returns the statistics of every blob that a convolution or a matrix reads.

    A copy counts as the blob that it copies (`layers.source`).
    """
    graph = loaded.graph
    wanted = [source(graph, la.inputs[0]) for la in graph.layers if la.type in EIGHT_BIT]
    found: dict[str, Statistics] = {}
    predictor = NcnnPredictor(loaded.folder, context.threads)
    for number, image in enumerate(view.letterboxed(context.imgsz)):
        context.progress(number / len(view), f"{number}/{len(view)} calibration images")
        for name, blob in predictor.blobs(image[0], dict.fromkeys(wanted)):
            channels = blob[None] if blob.ndim == _FLAT_AXES else blob
            found.setdefault(name, Statistics.of(len(channels))).add(channels)
    return found
