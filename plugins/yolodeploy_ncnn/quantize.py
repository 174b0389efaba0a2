"""The `quantize` step: convolutions that compute in 8-bit integers, written without ncnn's C++ tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from yolodeploy.backend import Artifact, Context, Probe, Trial
from yolodeploy.dataset import Dataset
from yolodeploy.digest import file_digest
from yolodeploy.errors import PlanRefused
from yolodeploy.transforms import Params
from yolodeploy_ncnn import int8, model, structure, weights
from yolodeploy_ncnn.calibrate import Statistics, calibrate
from yolodeploy_ncnn.params import Quantize
from yolodeploy_torch.ranges import Ranges, read_ranges
from yolodeploy_torch.structure import choose


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write the artifact with all convolutions in int8 but those that are to stay float.

    An artifact that comes with learned ranges gets exactly these: no image is looked at, nothing is
    corrected, and `keep_float` alone says what stays float. Raises PlanRefused for a selector without a
    match or one that training contradicts, an artifact that is compressed already or a budget that no
    setting keeps; DataError for calibration images that are too few or unreadable.
    """
    options = cast("Quantize", params)
    quantizer = Quantizer.of(artifact, options, context)
    chosen = tuple(quantizer.layers)
    if options.min_sqnr is not None and quantizer.learned is None:
        from yolodeploy_ncnn.budget import within

        chosen = within(options.min_sqnr, quantizer, artifact, context)
    result = context.work / "artifact"
    result.mkdir()
    quantizer.write(chosen, result)
    return result


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every convolution that may compute in int8, alone."""
    return Quantizer.of(artifact, cast("Quantize", params), context).probe()


@dataclass(frozen=True)
class Quantizer:
    """A float model, what its convolutions read, and the forms that follow from that.

    `layers` gives the graph's name of every convolution that may compute in int8, by its name in the
    checkpoint, in order of execution.
    """

    loaded: model.Model
    options: Quantize
    layers: Mapping[str, str]
    view: Dataset
    statistics: Mapping[str, Statistics]
    learned: Ranges | None = None

    @classmethod
    def of(cls, artifact: Artifact, options: Quantize, context: Context) -> Quantizer:
        """Calibrate; the checks that need no images come first."""
        loaded = model.read(artifact)
        _refuse_compressed(loaded)
        layers = _open_to_int8(loaded, options.keep_float)
        view = context.data["calibration"].to_calibrate(options.subset)
        if learned := read_ranges(artifact.path):
            learned.require(layers)
            return cls(loaded, options, layers, view, {}, learned)
        found = calibrate(
            artifact.path, loaded.graph, view, context.imgsz, context.threads, context.progress
        )
        return cls(loaded, options, layers, view, found)

    def write(self, chosen: Iterable[str], folder: Path) -> None:
        """Write the artifact in which the chosen convolutions compute in int8."""
        names = {self.layers[name]: self.forms[name] for name in chosen}
        self.loaded.write(folder, names, {weights.INT8_SCALES: int8.PER_CHANNEL})

    def probe(self) -> Probe:
        """Every convolution alone, for measuring what each costs."""
        trials = tuple(
            Trial(name, self.loaded.places[layer].part, "int8", self.loaded.kernels[layer].count)
            for name, layer in self.layers.items()
        )
        return Probe(trials, lambda trial, folder: self.write([trial.layer], folder), self.key)

    @cached_property
    def key(self) -> Mapping[str, object]:
        """What the forms depend on besides the model."""
        if self.learned:
            return {"ranges": "learned"}  # they are part of the input
        return {
            "method": self.options.method,
            "bias_correction": self.options.bias_correction,
            "calibration": [file_digest(image) for image in self.view.images],
        }

    @cached_property
    def forms(self) -> Mapping[str, bytes]:
        """Every convolution in int8, by its name in the checkpoint."""
        return {name: self._form(name, layer) for name, layer in self.layers.items()}

    def reads(self, name: str) -> Statistics:
        """What a layer of the graph reads."""
        layer = self.loaded.kernels[name].layer
        return self.statistics[structure.source(self.loaded.graph, layer.inputs[0])]

    def _form(self, name: str, layer: str) -> bytes:
        kernel, *bias = [block for block in self.loaded.blocks if block.layer.name == layer]
        exact = kernel.floats(self.loaded.data)
        shaped = exact.reshape(
            kernel.layer.number(weights.OUT_CHANNELS), -1, int8.taps(kernel.layer)
        )
        numbers = bias[0].floats(self.loaded.data) if bias else exact[:0]
        source = int8.Source(kernel.layer, shaped, numbers)
        if self.learned:
            return int8.quantized(source, self.learned.reads[name].high)
        method, correct = self.options.method, self.options.bias_correction
        return int8.calibrated(source, self.reads(layer), method, correct=correct)


def _refuse_compressed(loaded: model.Model) -> None:
    tags = {block.tag for block in loaded.kernels.values()}
    if weights.INT8 in tags:
        raise PlanRefused("the model computes in int8 already. Remove the second `quantize`.")
    if weights.CODEBOOK in tags:
        raise PlanRefused(
            "the weights are codebooks already, and rounding them again would add to their error. "
            "Put `w8` after `quantize`: it then compresses the layers that stayed float."
        )


def _open_to_int8(loaded: model.Model, keep_float: Iterable[str]) -> dict[str, str]:
    parts = {place.name: place.part for place in loaded.places.values()}
    kept = choose(keep_float, parts, "keep_float")
    found = {
        loaded.places[name].name: name
        for name, block in loaded.kernels.items()
        if block.layer.type == "Convolution" and loaded.places[name].name not in kept
    }
    if not found:
        raise PlanRefused("`keep_float` selects every convolution. Remove `quantize`.")
    return found
