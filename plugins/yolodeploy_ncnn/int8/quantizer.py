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
from yolodeploy_ncnn import model
from yolodeploy_ncnn.int8 import rounding
from yolodeploy_ncnn.int8.calibrate import Statistics, calibrate
from yolodeploy_ncnn.layers import CONVOLUTIONS, EIGHT_BIT, source
from yolodeploy_ncnn.params import Quantize


@dataclass(frozen=True)
class Quantizer:
    """A float model, statistics of what its convolutions and matrices read, and their int8 forms.

    `names` are those of the layers that may compute in int8, in order of execution.
    """

    loaded: model.Model
    options: Quantize
    names: tuple[str, ...]
    view: Dataset
    statistics: Mapping[str, Statistics]
    learned: Ranges | None = None

    @classmethod
    def of(cls, artifact: Artifact, options: Quantize, context: Context) -> Quantizer:
        """Calibrate, after the checks that need no images."""
        loaded = model.read(artifact)
        refuse_compressed(loaded.forms(), "w8")
        learned = read_ranges(artifact.path)
        candidates = _candidates(loaded, learned)
        names = layers_to_quantize(options.keep_float, loaded.parts, candidates, learned)
        view = context.data["calibration"].to_calibrate(options.subset)
        found = {} if learned else calibrate(loaded, view, context)
        return cls(loaded, options, names, view, found, learned)

    def write(self, names: Iterable[str], folder: Path) -> None:
        """Write the artifact in which the convolutions `names` compute in int8."""
        forms = {name: self.forms[name] for name in names}
        params = {name: rounding.params(self.loaded.kernels[name].layer) for name in forms}
        self.loaded.write(folder, forms, params)

    def probe(self) -> Probe:
        """Every convolution alone, for measuring what each costs."""
        trials = tuple(
            Trial(name, self.loaded.parts[name], "int8", self.loaded.kernels[name].count)
            for name in self.names
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
        """Every convolution in int8, by name."""
        return {name: self._form(name) for name in self.names}

    def multiplications(self) -> dict[str, float]:
        """The multiplications of every layer for one image, by name."""
        found = {}
        for name in self.names:
            kernel = self.loaded.kernels[name]
            pixels = self._reads(name).count / len(self.view)
            across, down = rounding.stride(kernel.layer)
            found[name] = kernel.count * pixels / (across * down)
        return found

    def _reads(self, name: str) -> Statistics:
        """Statistics of the blob that a convolution reads."""
        blob = self.loaded.kernels[name].layer.inputs[0]
        return self.statistics[source(self.loaded.graph, blob)]

    def _form(self, name: str) -> bytes:
        kernel, *bias = self.loaded.blocks_of(name)
        exact = kernel.floats(self.loaded.data)
        numbers = bias[0].floats(self.loaded.data) if bias else exact[:0]
        convolution = rounding.Source.of(kernel.layer, exact, numbers)
        if self.learned:
            return rounding.quantized(convolution, self.learned.reads[name].high)
        method, correct = self.options.method, self.options.bias_correction
        return rounding.calibrated(convolution, self._reads(name), method, correct=correct)


def _candidates(loaded: model.Model, learned: Ranges | None) -> list[str]:
    """The layers that ncnn has in int8; of matrices, where ranges were learned, those that have one."""
    return [
        name
        for name, block in loaded.kernels.items()
        if block.layer.type in CONVOLUTIONS
        or (block.layer.type in EIGHT_BIT and (learned is None or name in learned.reads))
    ]
