"""Quantizing an IR with NNCF, all of its layers or some."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Artifact, Context, Probe, Trial
from yolodeploy.compress import (
    Ranges,
    carry_layers,
    layers_to_quantize,
    read_ranges,
    refuse_compressed,
)
from yolodeploy.data import Dataset
from yolodeploy.system import file_digest
from yolodeploy_openvino import layers
from yolodeploy_openvino.export import batch_size, set_batch
from yolodeploy_openvino.graph import TRAINED, Structure, find_structure, sources
from yolodeploy_openvino.int8 import bias_correction
from yolodeploy_openvino.int8.qat_ranges import set_ranges
from yolodeploy_openvino.int8.ranges import fit_ranges
from yolodeploy_openvino.params import Quantize
from yolodeploy_openvino.toolchain import OTHER_VERSION, failing, nncf, read_model, save_model

_BIAS_IMAGES = 8  # means over all pixels of an image settle much sooner than ranges do


@dataclass(frozen=True)
class Quantizer:
    """Quantizes layers of one float artifact."""

    artifact: Artifact
    params: Quantize
    context: Context

    @cached_property
    def view(self) -> Dataset:
        """The calibration images that the ranges are taken from."""
        return self.context.data["calibration"].to_calibrate(self.params.subset)

    @cached_property
    def learned(self) -> Ranges | None:
        """The learned ranges of the artifact, None if it has none."""
        return read_ranges(self.artifact.path)

    @cached_property
    def batch(self) -> int:
        """How many images the artifact takes at once."""
        return batch_size(read_model(self.artifact.path))

    @cached_property
    def structure(self) -> Structure:
        """The structure of the float model; raises PlanRefused if it is compressed already."""
        model = read_model(self.artifact.path)
        found = find_structure(model, self.artifact.path)
        forms = {name: layers.form(node) for name, node in found.convolutions(model).items()}
        refuse_compressed(forms, "compress_weights")
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the layers that the recipe does not keep in floating point."""
        kept, found, candidates = self.params.keep_float, self.structure, self.structure.names
        if self.learned:  # training rounds what plain convolutions read
            nodes = found.convolutions(read_model(self.artifact.path))
            candidates = tuple(n for n in nodes if nodes[n].get_type_name() in TRAINED)
        return frozenset(layers_to_quantize(kept, found.parts, candidates, self.learned))

    def write(self, names: Collection[str], folder: Path) -> None:
        """Write the IR in which the layers `names` are quantized into `folder`."""
        quantized = self._quantized(names)
        set_batch(quantized, self.batch)
        save_model(quantized, folder)
        carry_layers(self.artifact.path, folder)

    def probe(self) -> Probe:
        """Calibrate once; then every trial is the float model with one quantized convolution."""
        quantized = self.structure.convolutions(self._quantized(self.names))
        integer = {name: node for name, node in quantized.items() if layers.form(node) == "int8"}

        def write(trial: Trial, folder: Path) -> None:
            model = read_model(self.artifact.path)
            convolution = self.structure.convolutions(model)[trial.layer]
            layers.copy_quantized(integer[trial.layer], convolution)
            save_model(model, folder)
            carry_layers(self.artifact.path, folder)

        return Probe(
            tuple(
                Trial(name, self.structure.parts[name], "int8", layers.weights(node).size)
                for name, node in integer.items()
            ),
            write,
            {
                "params": self.params.model_dump(mode="json", exclude={"max_drop"}),
                "calibration": [file_digest(image) for image in self.view.images],
                "device": self.context.target.device.name,
            },
        )

    def _quantized(self, names: Collection[str]) -> Any:
        """The model for one image, with the layers `names` in 8 bits.

        One image at a time, so that ranges and biases do not depend on the batch of the artifact.
        """
        tool = nncf()
        model = read_model(self.artifact.path)
        set_batch(model, 1)
        silent = contextlib.redirect_stdout(io.StringIO())  # NNCF draws its progress bars there
        with failing("quantize this model", OTHER_VERSION, "nncf"), silent:
            quantized = tool.quantize(model, **self._arguments(tool, names))
        floats = self.structure.convolutions(model)
        integers = self.structure.convolutions(quantized)
        if self.learned:
            set_ranges(quantized, integers, self.learned)
        else:
            self._calibrate(quantized, model, floats, integers)
        for name, node in integers.items():  # NNCF renames the weights
            sources(node)[1].set_friendly_name(sources(floats[name])[1].get_friendly_name())
        return quantized

    def _calibrate(
        self, quantized: Any, model: Any, floats: dict[str, Any], integers: dict[str, Any]
    ) -> None:
        """Narrow the ranges to where the error is least, and correct the biases for these."""
        size, threads = self.context.imgsz, self.context.threads
        symmetric = self.params.preset == "performance"
        fit_ranges(quantized, model, self.view.letterboxed(size), threads, symmetric=symmetric)
        if self.params.fast_bias_correction:
            images = self.view.spread(_BIAS_IMAGES).letterboxed(size)
            bias_correction.correct(floats, integers, model.get_parameters(), images, threads)

    def _arguments(self, tool: Any, names: Collection[str]) -> dict[str, Any]:
        device = self.context.target.device
        # Without VNNI, products of 8 bits are added up in 16 bits and saturate unless the weights use
        # only half of their range (OpenVINO, "Basic Quantization Flow"; NNCF, `OverflowFix`).
        overflow_fix = "disable" if device.features & {"vnni", "amx"} else "enable"
        structure = self.structure
        # Attention's products stay float: a step of 8 bits is coarse for the shares of a softmax, and
        # two products of many hundred cost little time.
        ignored = sorted({*structure.parts, *structure.products} - set(names))
        stream: Any = _Stream(self.view, self.context)
        if self.learned:  # NNCF needs an image to place quantizers, whatever it shows
            stream = [np.full(self.context.imgsz.batch, 0.5, np.float32)]
        return {
            "calibration_dataset": tool.Dataset(stream),
            "preset": tool.QuantizationPreset(self.params.preset),
            "target_device": tool.TargetDevice(str(device.options["unit"])),
            "subset_size": 1 if self.learned else len(self.view),
            "fast_bias_correction": self.params.fast_bias_correction,
            "ignored_scope": tool.IgnoredScope(names=ignored),
            "advanced_parameters": tool.AdvancedQuantizationParameters(
                overflow_fix=tool.OverflowFix(overflow_fix),
                activations_range_estimator_params=_whole_ranges(),
                # ours is used instead, or trained biases stay
                disable_bias_correction=bool(self.params.fast_bias_correction or self.learned),
            ),
        }


def _whole_ranges() -> Any:
    """NNCF's setting for ranges that hold every value of all images."""
    module = importlib.import_module("nncf.quantization.range_estimator")
    return module.RangeEstimatorParametersSet.MINMAX


@dataclass(frozen=True)
class _Stream:
    """Yields the calibration images one at a time and reports progress."""

    view: Dataset
    context: Context

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        total = len(self.view)
        for number, image in enumerate(self.view.letterboxed(self.context.imgsz)):
            self.context.progress(0.95 * number / total, f"{number}/{total} calibration images")
            yield image
