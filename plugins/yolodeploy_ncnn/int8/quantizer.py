"""Writing an artifact in which some of the convolutions compute in int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from yolodeploy.backend import Artifact, Context, Probe, Trial
from yolodeploy.compress import Ranges, layers_to_quantize, read_ranges, refuse_compressed
from yolodeploy.data import Dataset
from yolodeploy.system import file_digest
from yolodeploy_ncnn import bin_file, model
from yolodeploy_ncnn.int8 import rounding
from yolodeploy_ncnn.int8.calibrate import Statistics, calibrate
from yolodeploy_ncnn.layers import source
from yolodeploy_ncnn.params import Quantize


@dataclass(frozen=True)
class Quantizer:
    """A float model, statistics of what its convolutions read, and their int8 forms.

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
        """Calibrate, after the checks that need no images."""
        loaded = model.read(artifact)
        refuse_compressed(loaded.forms(), "w8")
        learned = read_ranges(artifact.path)
        parts = {place.name: place.part for place in loaded.places.values()}
        candidates = [
            name
            for name, layer in loaded.layers.items()
            if loaded.kernels[layer].layer.type == "Convolution"
        ]
        names = layers_to_quantize(options.keep_float, parts, candidates, learned)
        layers = {name: loaded.layers[name] for name in names}
        view = context.data["calibration"].to_calibrate(options.subset)
        found = {} if learned else calibrate(loaded, view, context)
        return cls(loaded, options, layers, view, found, learned)

    def write(self, names: Iterable[str], folder: Path) -> None:
        """Write the artifact in which the convolutions `names` compute in int8."""
        forms = {self.layers[name]: self.forms[name] for name in names}
        self.loaded.write(folder, forms, {bin_file.INT8_SCALES: rounding.PER_CHANNEL})

    def probe(self) -> Probe:
        """Every convolution alone, for measuring what each costs."""
        trials = tuple(
            Trial(name, self.loaded.places[layer].part, "int8", self.loaded.kernels[layer].count)
            for name, layer in self.layers.items()
        )
        return Probe(trials, lambda trial, folder: self.write([trial.layer], folder), self.key)

    @cached_property
    def key(self) -> Mapping[str, object]:
        """What the int8 forms depend on besides the model."""
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

    def multiplications(self) -> dict[str, float]:
        """The multiplications of every layer for one image, by its name in the checkpoint."""
        found = {}
        for name, layer in self.layers.items():
            kernel = self.loaded.kernels[layer]
            pixels = self._reads(layer).count / len(self.view)
            across, down = rounding.stride(kernel.layer)
            found[name] = kernel.count * pixels / (across * down)
        return found

    def _reads(self, layer: str) -> Statistics:
        """Statistics of the blob that a layer of the graph reads."""
        blob = self.loaded.kernels[layer].layer.inputs[0]
        return self.statistics[source(self.loaded.graph, blob)]

    def _form(self, name: str, layer: str) -> bytes:
        kernel, *bias = self.loaded.blocks_of(layer)
        exact = kernel.floats(self.loaded.data)
        shape = (kernel.layer.number(bin_file.OUT_CHANNELS), -1, rounding.taps(kernel.layer))
        numbers = bias[0].floats(self.loaded.data) if bias else exact[:0]
        convolution = rounding.Source(kernel.layer, exact.reshape(shape), numbers)
        if self.learned:
            return rounding.quantized(convolution, self.learned.reads[name].high)
        method, correct = self.options.method, self.options.bias_correction
        return rounding.calibrated(convolution, self._reads(layer), method, correct=correct)
