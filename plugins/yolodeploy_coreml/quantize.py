"""The step `quantize`: 8-bit weights and 8-bit activations (W8A8), for iOS 17 and later.

Weights are symmetric per output channel, activations asymmetric per tensor, as the arithmetic of
8-bit convolutions wants them. What rounding the weights does to the mean of each channel is known
(the mean of what the convolution reads is) and taken out of the bias.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Probe, Trial
from yolodeploy.digest import digest_of, file_digest
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.sensitivity import Cost, measure
from yolodeploy_coreml import pairs
from yolodeploy_coreml.activations import observe
from yolodeploy_coreml.encodings import affine
from yolodeploy_coreml.graph import block_of, layers
from yolodeploy_coreml.package import PACKAGE, read_package, write_package
from yolodeploy_coreml.program import Editor
from yolodeploy_coreml.ranges import Grid, grid, silu
from yolodeploy_coreml.runtime import ExecutorPredictor
from yolodeploy_torch.compute import threads
from yolodeploy_torch.ranges import Range, Ranges, read_ranges
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context, Predictor
    from yolodeploy.transforms import Params
    from yolodeploy_coreml.graph import Layer
    from yolodeploy_coreml.params import Quantize
    from yolodeploy_coreml.ranges import Histogram

_ROUNDS, _MARGIN_DB = 5, 0.4
SCHEME = "int8"
_LARGEST = 127


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write the package whose convolutions compute with 8-bit weights and activations.

    An artifact that comes with learned ranges gets exactly these: no image is looked at, no bias
    corrected, and `keep_float` alone says what stays float. Raises PlanRefused for a selector without
    a match or one that training contradicts, or a package that is compressed already,
    DataError for calibration images that are too few or unreadable.
    """
    options = cast("Quantize", params)
    quantizer = Quantizer(artifact, options, context)
    names: Collection[str] = quantizer.names
    if options.min_sqnr is not None and quantizer.learned is None:
        names = quantizer.within(options.min_sqnr, artifact)
    result = context.work / "artifact"
    quantizer.write(names, result)
    return result


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every convolution that the step may quantize, one at a time; the images are run once."""
    return Quantizer(artifact, cast("Quantize", params), context).probe()


def cheapest(least_db: float, costs: Sequence[Cost]) -> list[str]:
    """As many convolutions as keep an SQNR of `least_db` by the sum of their costs, the cheapest.

    Raises PlanRefused if no single one does.
    """
    order = sorted(costs, key=lambda cost: (cost.noise, cost.trial.layer))
    noise = np.cumsum([cost.noise for cost in order])
    count = int(np.searchsorted(noise, 10 ** (-least_db / 10), side="right"))
    if not count:
        raise PlanRefused(
            f"`min_sqnr: {least_db:g}` is met by no setting. The best that was reached is "
            f"{order[0].sqnr_db:.1f} dB, with {order[0].trial.layer} alone in int8. Ask for less, "
            "or use `palettize`, which computes in floating point."
        )
    return [cost.trial.layer for cost in order[:count]]


@dataclass(frozen=True)
class _Convolution:
    """A convolution that may be quantized: where it is, and what its operands hold."""

    layer: Layer
    reads: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None

    def values(self) -> tuple[str, ...]:
        """The values that get a grid: what it reads, and what it computes unless that is decoded."""
        decoded = self.layer.part == "head.last"
        return (self.reads,) if decoded else (self.reads, self.layer.output)

    def shift(self, rounded: NDArray[Any], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the `rounded` weights add to the mean of each output channel `[out]`.

        `means` are those of the channels that the convolution reads.
        """
        change = (rounded.astype(np.float64) - self.weight).sum((2, 3))
        groups = len(means) // change.shape[1]
        grouped = change.reshape(groups, -1, change.shape[1])
        result: NDArray[np.float64] = np.einsum("goi,gi->go", grouped, means.reshape(groups, -1))
        return result.reshape(-1)


class Quantizer:
    """A float package, its calibration images, and packages with some convolutions quantized."""

    def __init__(self, artifact: Artifact, options: Quantize, context: Context) -> None:
        self._path = artifact.path / PACKAGE
        self._options, self._context = options, context
        self._images = context.data["calibration"].to_calibrate(options.subset)
        self._package = read_package(self._path)
        self._block = block_of(self._package.spec)
        if pairs.is_quantized(self._block):
            raise PlanRefused("the model is quantized already. Remove the second `quantize`.")
        editor = Editor(self._package)
        kept = choose(options.keep_float, editor.parts, "keep_float")
        self._float = _convolutions(editor, self._block)
        self.names = tuple(name for name in self._float if name not in kept)
        if not self.names:
            raise PlanRefused("`keep_float` selects every convolution. Remove `quantize`.")
        self.learned = read_ranges(artifact.path)
        if self.learned:
            self.learned.require(self.names)

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

    def within(self, least_db: float, artifact: Artifact) -> list[str]:
        """The convolutions to quantize so that the output keeps an SQNR of `least_db`.

        Chosen by the sum of single costs, then measured together; where that misses, the next
        choice aims higher. Raises PlanRefused, with the best that was reached, if none keeps it.
        """
        costs, aim, best = self._measured(self.probe(), artifact), least_db, -math.inf
        for _ in range(_ROUNDS):
            names = cheapest(aim, costs)
            (whole,) = self._measured(self._together(names), artifact)
            if whole.sqnr_db >= least_db:
                return names
            best = max(best, whole.sqnr_db)
            aim += least_db - whole.sqnr_db + _MARGIN_DB
        raise PlanRefused(
            f"`min_sqnr: {least_db:g}` is met by no setting that was tried. The best that was reached is "
            f"{best:.1f} dB. Ask for that."
        )

    def _measured(self, probe: Probe, artifact: Artifact) -> tuple[Cost, ...]:
        """Costs in our executor with one thread, whatever the machine: bytes depend on them."""

        def opened(trial: Artifact) -> Predictor:
            return ExecutorPredictor(trial.path / PACKAGE, 1)

        return measure(probe, artifact, opened, self._images, self._context)

    def _together(self, names: Collection[str]) -> Probe:
        """One trial: all of these convolutions quantized."""
        trial = Trial(f"{len(names)} layers", "all", SCHEME, 0)
        key = {**self.probe().key, "layers": sorted(names)}
        return Probe((trial,), lambda _, folder: self.write(names, folder), key)

    def write(self, names: Collection[str], folder: Path) -> None:
        """Write the artifact in which the convolutions `names` are quantized, into `folder`."""
        package = read_package(self._path)
        editor = Editor(package)
        chosen = [self._float[name] for name in names]
        weights, biases = {}, {}
        for convolution in chosen:
            steps, scale = symmetric(convolution.weight)
            name, zero = convolution.layer.name, np.zeros(len(scale), np.int8)
            weights[name] = affine(steps, scale, zero, ios18=editor.is_ios18)
            if convolution.bias is not None and self.learned is None:
                means = self._histograms[convolution.reads].means
                shift = convolution.shift(dense(steps, scale), means)
                biases[name] = (convolution.bias - shift).astype(convolution.bias.dtype)
        with tempfile.TemporaryDirectory(dir=self._context.work) as stored:
            editor.write(weights, biases, Path(stored))
            pairs.insert(
                block_of(package.spec),
                {v: self._grids[v] for v in sorted({v for c in chosen for v in c.values()})},
                {convolution.layer.output for convolution in chosen},
            )
            package.spec.description.metadata.shortDescription += ", int8 (W8A8)"
            write_package(folder / PACKAGE, package.spec, Path(stored))

    @cached_property
    def _histograms(self) -> dict[str, Histogram]:
        """What the values hold that any of the convolutions reads or computes."""
        names = {v for name in self.names for v in self._float[name].values()}
        weights = {c.layer.output: c.weight.astype(np.float64) for c in self._float.values()}
        # The order of sums, and with it their last bits, depends on the number of threads.
        with threads(1):
            return observe(
                self._package,
                names,
                weights,
                self._images,
                self._context.imgsz,
                self._context.progress,
            )

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        readers = _readers(self._block)
        halves = pairs.half_values(self._block)
        if self.learned:
            return self._from_training(self.learned, halves)
        return {
            name: histogram.choose(
                self._options.method,
                silu if readers[name] == {"silu"} else None,
                half=name in halves,
            )
            for name, histogram in self._histograms.items()
        }

    def _from_training(self, learned: Ranges, halves: frozenset[str]) -> dict[str, Grid]:
        """The learned range of every value that gets a grid; raises StepFailed if it has two."""
        ranges: dict[str, Range] = {}
        for name in self.names:
            convolution = self._float[name]
            found = (learned.reads[name], learned.makes.get(name))
            for value, wanted in zip(convolution.values(), found, strict=False):
                if wanted is None or ranges.setdefault(value, wanted) != wanted:
                    raise StepFailed(
                        f"training gave {value}, around {name}, no range or two. Build it again."
                    )
        return {
            value: grid(wanted.low, wanted.high, half=value in halves)
            for value, wanted in ranges.items()
        }


def symmetric(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Map each output channel's largest magnitude to 127; steps like the weight, scales `[out]`."""
    rows = weight.reshape(len(weight), -1).astype(np.float32)
    scale = (np.abs(rows).max(1) / _LARGEST).astype(weight.dtype)
    scale[scale == 0] = 1  # a channel of zeros
    steps = np.clip(np.round(rows / scale.astype(np.float32)[:, None]), -_LARGEST, _LARGEST)
    return steps.astype(np.int8).reshape(weight.shape), scale


def dense(steps: NDArray[np.int8], scale: NDArray[Any]) -> NDArray[Any]:
    """The weights that steps and scales stand for, in the type of the scales."""
    along = scale.astype(np.float32).reshape(-1, *(1,) * (steps.ndim - 1))
    result: NDArray[Any] = (steps * along).astype(scale.dtype)
    return result


def _convolutions(editor: Editor, block: Any) -> dict[str, _Convolution]:
    """The convolutions in front of the decoder; raises PlanRefused for compressed weights."""
    operations = {out.name: op for op in block.operations for out in op.outputs}
    result = {}
    for layer in layers(block):
        if layer.part == "dfl":
            continue
        if layer.name not in editor.layers:
            raise PlanRefused(
                f"the weights of {layer.name} are compressed already; `quantize` takes float ones. "
                "Remove the step before it."
            )
        reads = operations[layer.output].inputs["x"].arguments[0].name
        result[layer.name] = _Convolution(layer, reads, editor.weight(layer), editor.bias(layer))
    return result


def _readers(block: Any) -> dict[str, set[str]]:
    """The types of the operations that read each value."""
    found: dict[str, set[str]] = {}
    for op in block.operations:
        for argument in op.inputs.values():
            for binding in argument.arguments:
                found.setdefault(binding.name, set()).add(op.type)
    return found
