"""A reference implementation of ncnn's published int8 calibration, to compare with.

No wheel ships ncnn's `ncnn2table` and `ncnn2int8`, so these are not the tools themselves. What is
followed: per-channel weight scales of 127 over the greatest weight, and of 31 for 3x3 convolutions
without stride (6 bits, for Winograd); one scale per layer input, by either

* KL: S. Migacz, "8-bit inference with TensorRT" (2017), a histogram of 2048 bins, 128 levels;
* ACIQ: R. Banner et al., "Post training 4-bit quantization of convolutional networks for
  rapid-deployment" (2019), under a Gaussian prior whose deviation follows from the range.

The tools quantize every convolution, the decoding of boxes too; `spare` leaves one out, as users do
by hand. Images are letterboxed as ours are, which the tools would not do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolodeploy.data.dataset import Dataset
from yolodeploy.system import ImageShape
from yolodeploy_ncnn import bin_file as weights
from yolodeploy_ncnn import layers as structure
from yolodeploy_ncnn import model
from yolodeploy_ncnn.runtime import NcnnPredictor

BINS, LEVELS = 2048, 128
_GAUSSIAN_8_BITS = 3.92403714  # the paper's table of clipping values, in standard deviations
_RANGE_TO_DEVIATION = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))


class Reference:
    """The two thresholds of every layer, from one pass for ranges and one for histograms."""

    def __init__(self, loaded: model.Model, view: Dataset, imgsz: ImageShape) -> None:
        self._loaded = loaded
        graph, kernels = loaded.graph, loaded.kernels
        self._reads = {
            name: structure.source(graph, block.layer.inputs[0]) for name, block in kernels.items()
        }
        blobs = dict.fromkeys(self._reads.values())
        predictor = NcnnPredictor(loaded.folder, 1)
        peaks: dict[str, float] = dict.fromkeys(blobs, 0.0)
        values: dict[str, int] = {}
        for image in view.letterboxed(imgsz):
            for name, blob in predictor.blobs(image[0], blobs):
                peaks[name] = max(peaks[name], float(np.abs(blob).max()))
                values[name] = blob.size
        counts = {name: np.zeros(BINS) for name in blobs}
        for image in view.letterboxed(imgsz):
            for name, blob in predictor.blobs(image[0], blobs):
                sizes = np.abs(blob[blob != 0])
                bins = np.minimum((sizes / peaks[name] * BINS).astype(int), BINS - 1)
                counts[name] += np.bincount(bins, minlength=BINS)
        self.kl = {n: (_least_divergence(c) + 0.5) * peaks[n] / BINS for n, c in counts.items()}
        self.aciq = {n: _gaussian(peak, values[n]) for n, peak in peaks.items()}

    def write(self, thresholds: Mapping[str, float], spare: Collection[str], folder: Path) -> Path:
        """Write the artifact with every layer in int8 but those in `spare`."""
        layers = {
            name: self._layer(name, thresholds[self._reads[name]])
            for name in self._loaded.kernels
            if name not in spare
        }
        folder.mkdir()
        per_channel = {weights.INT8_SCALES: "2"}
        self._loaded.write(folder, layers, dict.fromkeys(layers, per_channel))
        return folder

    def _layer(self, name: str, threshold: float) -> bytes:
        kernel, *bias = [block for block in self._loaded.blocks if block.layer.name == name]
        layer, data = kernel.layer, self._loaded.data
        plain = (layer.number(1), layer.number(3, 1)) == (3, 1)
        exact = kernel.floats(data).reshape(layer.number(weights.OUT_CHANNELS), -1)
        scales = ((31 if plain else 127) / np.maximum(np.abs(exact).max(1), 1e-12)).astype("<f4")
        integers = np.rint(exact * scales[:, None]).astype(np.int8)
        tail = [block.floats(data).astype("<f4").tobytes() for block in bias]
        scale = np.array(127 / threshold, "<f4").tobytes()
        return b"".join([weights.int8_block(integers), *tail, scales.tobytes(), scale])


def _gaussian(peak: float, count: int) -> float:
    return _GAUSSIAN_8_BITS * 2 * peak * _RANGE_TO_DEVIATION / math.sqrt(2 * math.log(count))


def _least_divergence(counts: Any) -> int:
    """How many bins are kept at the least divergence between them and their 128 levels."""
    best, least = BINS, math.inf
    for kept in range(LEVELS, BINS):
        exact = counts[:kept].copy()
        filled = exact > 0
        level = np.arange(kept) * LEVELS // kept
        totals = np.bincount(level, exact, LEVELS)
        used = np.bincount(level, filled, LEVELS)
        rough = np.where(filled, totals[level] / np.maximum(used[level], 1), 0)
        exact[-1] += counts[kept:].sum()
        both = (exact > 0) & (rough > 0)
        p, q = exact / exact.sum(), rough / rough.sum()
        divergence = float((p[both] * np.log(p[both] / q[both])).sum())
        divergence += float((p[(exact > 0) & ~both] * math.log(1e6)).sum())
        if divergence < least:
            best, least = kept, divergence
    return best
