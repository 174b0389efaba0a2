"""The step `quantize`: 8-bit weights and 8-bit activations (W8A8), for iOS 17 and later.

Weights are symmetric per output channel, activations asymmetric per tensor, as the arithmetic of
8-bit convolutions requires. Rounding the weights shifts the mean of each output channel; the shift
follows from the means of the channels that the convolution reads, and is taken out of the bias.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Probe, Trial
from yolodeploy.compress import (
    Candidates,
    Cost,
    Range,
    Ranges,
    carry_layers,
    dominant,
    layers_to_quantize,
    measure_layers,
    read_layers,
    read_ranges,
    within_noise,
)
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.system import digest_of, file_digest
from yolodeploy_coreml.activations.observers import observe
from yolodeploy_coreml.activations.qdq import fp16_values, insert_pairs
from yolodeploy_coreml.activations.ranges import Grid, grid, silu
from yolodeploy_coreml.mlpackage import (
    MATRIX,
    PACKAGE,
    Editor,
    integers,
    is_quantized,
    names_read,
    read_package,
)
from yolodeploy_coreml.runtime import ExecutorPredictor
from yolodeploy_torch.model import threads

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context, Params, Predictor
    from yolodeploy_coreml.activations.ranges import Histogram
    from yolodeploy_coreml.mlpackage import Layer
    from yolodeploy_coreml.params import Quantize


_MARGIN = 10**-0.04  # of the noise: 0.4 dB
_ADVICE = "Ask for that much, or use `palettize`, which computes in floating point."
SCHEME = "int8"
_LARGEST = 127
_MATRIX_AXES = 2
_DECODED = ("head.keypoints", "head.angle")  # parts whose last convolutions are decoded


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write the package whose convolutions compute with 8-bit weights and activations.

    An artifact with learned ranges gets exactly these: no image is read, no bias corrected, and
    `keep_float` alone says what stays float. Raises PlanRefused for a selector that matches nothing
    or contradicts training, and for a package that is compressed already; DataError for calibration
    images that are too few or unreadable.
    """
    options = cast("Quantize", params)
    quantizer = Quantizer(artifact, options, context)
    names: Collection[str] = quantizer.names
    if quantizer.learned is None:
        names = quantizer.chosen(artifact)
    result = context.work / "artifact"
    quantizer.write(names, result)
    return result


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every convolution that the step may quantize, one at a time, with the same ranges."""
    return Quantizer(artifact, cast("Quantize", params), context).probe()


@dataclass(frozen=True)
class _Convolution:
    """A convolution or matrix that may be quantized: its place in the program, its weight and its bias.

    `decoded` says that the decoder reads its output.
    """

    layer: Layer
    reads: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    decoded: bool

    def values(self) -> tuple[str, ...]:
        """The values that get a grid: its input, and its output unless the decoder reads that."""
        return (self.reads,) if self.decoded else (self.reads, self.layer.output)

    def shift(self, rounded: NDArray[Any], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the `rounded` weights add to the mean of each output channel `[out]`.

        `means` are those of the channels that the convolution reads.
        """
        error = rounded.astype(np.float64) - self.weight
        change = error.sum((2, 3)) if error.ndim > _MATRIX_AXES else error
        groups = len(means) // change.shape[1]
        grouped = change.reshape(groups, -1, change.shape[1])
        result: NDArray[np.float64] = np.einsum("goi,gi->go", grouped, means.reshape(groups, -1))
        return result.reshape(-1)


class Quantizer:
    """Writes a float package with some of its convolutions quantized, calibrated on images."""

    def __init__(self, artifact: Artifact, options: Quantize, context: Context) -> None:
        self._path = artifact.path / PACKAGE
        self._options, self._context = options, context
        self._images = context.data["calibration"].to_calibrate(options.subset)
        self._package = read_package(self._path)
        self._folder, self._named = artifact.path, read_layers(artifact.path)
        editor = Editor(self._package, self._named)
        self._block = editor.block
        if is_quantized(self._block):
            raise PlanRefused("the model is quantized already. Remove the second `quantize`.")
        self.learned = read_ranges(artifact.path)
        self._float = _convolutions(editor, self.learned)
        self.names = layers_to_quantize(options.keep_float, editor.parts, self._float, self.learned)

    def probe(self) -> Probe:
        """One trial per convolution that may be quantized, in order of execution."""
        chosen = (self._float[name] for name in self.names)
        return Probe(
            trials=tuple(Trial(c.layer.name, c.layer.part, SCHEME, c.weight.size) for c in chosen),
            write=lambda trial, folder: self.write({trial.layer}, folder),
            key={
                "method": self._options.method,
                "calibration": digest_of([file_digest(image) for image in self._images.images]),
            },
        )

    def chosen(self, artifact: Artifact) -> Collection[str]:
        """The convolutions to quantize: by the noise of the output, or all but those that cost most of it.

        Costs are measured in our executor, always with one thread, since the bytes depend on them.
        """

        def opened(trial: Artifact) -> Predictor:
            return ExecutorPredictor(trial.path / PACKAGE, 1, raw=True)

        def measure(probe: Probe) -> tuple[Cost, ...]:
            return measure_layers(probe, artifact, opened, self._images, self._context)

        if self._options.min_sqnr is not None:
            layers = Candidates(self.probe(), self.write, measure, margin=_MARGIN)
            return within_noise(self._options.min_sqnr, layers, _ADVICE)
        if not self._options.spare_dominant:
            return self.names
        spared = dominant(measure(self.probe()))
        return [name for name in self.names if name not in spared]

    def write(self, names: Collection[str], folder: Path) -> None:
        """Write the artifact in which the convolutions `names` are quantized, into `folder`."""
        editor = Editor(read_package(self._path), self._named)
        chosen = [self._float[name] for name in names]
        weights, biases = {}, {}
        for convolution in chosen:
            steps, scale = symmetric(convolution.weight)
            name, zero = convolution.layer.name, np.zeros(scale.shape, np.int8)
            weights[name] = integers(steps, scale, zero, 8, ios18=editor.is_ios18)
            if convolution.bias is not None and self.learned is None:
                rounded = (steps * scale.astype(np.float32)).astype(scale.dtype)
                shift = convolution.shift(rounded, self._histograms[convolution.reads].means)
                biases[name] = (convolution.bias - shift).astype(convolution.bias.dtype)
        grids = {value: self._grids[value] for c in chosen for value in c.values()}
        insert_pairs(editor.block, grids, {convolution.layer.output for convolution in chosen})
        editor.save(weights, biases, "int8 (W8A8)", folder / PACKAGE)
        carry_layers(self._folder, folder)

    @cached_property
    def _histograms(self) -> dict[str, Histogram]:
        """Histograms of the values that any of the convolutions reads or computes."""
        names = {v for name in self.names for v in self._float[name].values()}
        weights = {c.layer.output: c.weight.astype(np.float64) for c in self._float.values()}
        # The order of sums, and with it their last bits, depends on the number of threads.
        with threads(1):
            return observe(self._package, names, weights, self._images, self._context)

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        halves = fp16_values(self._block)
        if self.learned:
            return self._learned_grids(self.learned, halves)
        readers = _readers(self._block)
        grids = {}
        for name, histogram in self._histograms.items():
            curve = silu if readers[name] == {"silu"} else None
            grids[name] = histogram.choose(self._options.method, curve, half=name in halves)
        return grids

    def _learned_grids(self, learned: Ranges, halves: frozenset[str]) -> dict[str, Grid]:
        """Grids from the learned ranges; StepFailed if a value has no range or two."""
        ranges: dict[str, Range] = {}
        for name in self.names:
            convolution = self._float[name]
            found = (learned.reads[name], learned.makes.get(name))
            for value, wanted in zip(convolution.values(), found, strict=False):
                if wanted is None or ranges.setdefault(value, wanted) != wanted:
                    raise StepFailed(
                        f"training must give {value}, around {name}, exactly one range, but gave none "
                        "or two. Build it again."
                    )
        return {
            value: grid(wanted.low, wanted.high, half=value in halves)
            for value, wanted in ranges.items()
        }


def symmetric(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Map each output channel's largest magnitude to 127.

    Returns steps of the weight's shape, and scales `[out, 1, 1, 1]` of its type; of a matrix `[out, 1]`.
    """
    exact = weight.astype(np.float32)
    inputs = tuple(range(1, exact.ndim))
    scale = (np.abs(exact).max(inputs, keepdims=True) / _LARGEST).astype(weight.dtype)
    scale[scale == 0] = 1  # a channel of zeros
    steps = np.clip(np.round(exact / scale.astype(np.float32)), -_LARGEST, _LARGEST)
    return steps.astype(np.int8), scale


def _convolutions(editor: Editor, learned: Ranges | None) -> dict[str, _Convolution]:
    """The convolutions and matrices in front of the decoder, but matrices that no range was learned for; raises PlanRefused for compressed weights."""
    if editor.compressed:
        raise PlanRefused(
            f"the weights of {editor.compressed[0]} are compressed already; `quantize` takes float ones. "
            "Remove the step before it."
        )
    made = {op.outputs[0].name: op for op in editor.block.operations}
    readers = _readers(editor.block)
    found = {}
    for name, layer in editor.layers.items():
        if learned and layer.kind == MATRIX and name not in learned.reads:
            continue
        reads = made[layer.output].inputs["x"].arguments[0].name
        decoded = layer.part == "head.last" or (
            layer.part in _DECODED and readers[layer.output] == {"reshape"}
        )
        weight, bias = editor.weight(layer), editor.bias(layer)
        found[name] = _Convolution(layer, reads, weight, bias, decoded)
    return found


def _readers(block: Any) -> dict[str, set[str]]:
    """The types of the operations that read each value."""
    found: dict[str, set[str]] = {}
    for op in block.operations:
        for name in names_read(op):
            found.setdefault(name, set()).add(op.type)
    return found
