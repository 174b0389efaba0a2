"""Quantizing an ONNX model, all of its convolutions or some."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

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
from yolodeploy_onnxruntime.int8 import grids
from yolodeploy_onnxruntime.int8.calibrate import Statistics, observe, run
from yolodeploy_onnxruntime.int8.grids import Grid
from yolodeploy_onnxruntime.int8.rewriting import Activations, Integer, Rewriter
from yolodeploy_onnxruntime.int8.rounding import least_scales, rounded, shift
from yolodeploy_onnxruntime.model_file import read_model, write_model
from yolodeploy_onnxruntime.params import Quantize
from yolodeploy_onnxruntime.structure import Region, Structure, find_structure, region

_BIAS_IMAGES = 8  # means over all pixels of an image settle much sooner than ranges do
_SAFE = frozenset({"vnni", "dotprod", "simd"})
_LEVELS, _HALF_LEVELS = 127, 63


@dataclass(frozen=True)
class Quantizer:
    """Quantizes convolutions of one float artifact."""

    artifact: Artifact
    params: Quantize
    context: Context

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The float model."""
        return read_model(self.artifact.path)

    @cached_property
    def structure(self) -> Structure:
        """Its structure; raises PlanRefused if it is compressed already."""
        found = find_structure(self.model, self.artifact.path)
        refuse_compressed(found.forms, "w8")
        return found

    @cached_property
    def view(self) -> Dataset:
        """The calibration images that the ranges are taken from."""
        return self.context.data["calibration"].to_calibrate(self.params.subset)

    @cached_property
    def learned(self) -> Ranges | None:
        """The learned ranges of the artifact, None if it has none."""
        return read_ranges(self.artifact.path)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the convolutions that the recipe does not keep in floating point."""
        found = self.structure
        candidates = found.convolutions
        if self.learned:  # training rounds what convolutions read, not what a matrix reads
            candidates = {name: n for name, n in candidates.items() if n.op_type == "Conv"}
        kept = self.params.keep_float
        return layers_to_quantize(kept, found.parts, candidates, self.learned)

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """What the maps around these convolutions hold."""
        every = {value for node in self.structure.lookup.nodes for value in node.output}
        values = sorted(region(self.structure, self.names, every | {"images"}).values)
        return observe(self.model, values, self.view, self.context)

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """The grids of all maps that can be held in 8 bits."""
        if self.learned:
            return grids.learned(self.structure, self.learned)
        return grids.calibrated(self.structure, self.statistics, self.params.method)

    @cached_property
    def integers(self) -> dict[str, Integer]:
        """Every convolution in 8 bits, by name."""
        means = {} if self.learned or not self.params.bias_correction else self._means()
        return {name: self._integer(name, means.get(name)) for name in self.names}

    def write(self, names: Collection[str], folder: Path) -> None:
        """Write the model in which the convolutions `names` compute in 8 bits."""
        inside = self._region(names)
        activations = cast("Activations", self.context.target.device.options["activations"])
        rewriter = Rewriter(self.structure, inside, self.grids, activations)
        chosen = {name: self.integers[name] for name in self.names if name in set(names)}
        write_model(rewriter.model(self.model, chosen), folder)
        carry_layers(self.artifact.path, folder)

    def probe(self) -> Probe:
        """Every convolution alone, for measuring what each costs."""
        found = self.structure
        trials = tuple(
            Trial(name, found.parts[name], "int8", self.structure.weights(name).size)
            for name in self.names
        )
        key = {
            "params": self.params.model_dump(mode="json", exclude={"min_sqnr", "spare_dominant"}),
            "calibration": [] if self.learned else [file_digest(i) for i in self.view.images],
            "device": self.context.target.device.name,
        }
        return Probe(trials, lambda trial, folder: self.write([trial.layer], folder), key)

    def multiplications(self) -> dict[str, float]:
        """The multiplications of every convolution for one image, by name."""
        made = {name: node.output[0] for name, node in self.structure.convolutions.items()}
        return {
            name: float(self.structure.weights(name).size * self._pixels(made[name]))
            for name in self.names
        }

    def _pixels(self, value: str) -> int:
        found = self.statistics.get(value)
        return found.pixels if found else 1

    def _region(self, names: Collection[str]) -> Region:
        return region(self.structure, set(names), self.grids.keys())

    def _integer(self, name: str, means: Any) -> Integer:
        node = self.structure.layers[name]
        exact = self.structure.kernel(name).astype(np.float32)
        read = self.grids[node.input[0]].scale
        # Without 8-bit dot products, pairs of products are added up in 16 bits and saturate unless the
        # weights use only half of their range (ONNX Runtime, "Quantize ONNX Models").
        safe = self.context.target.device.features & _SAFE
        levels = _LEVELS if safe else _HALF_LEVELS
        added = self.structure.bias(name)
        if added is None:
            return Integer(rounded(exact, levels), None)
        bias = self.structure.lookup.values(added).astype(np.float64)
        weights = rounded(exact, levels, least_scales(bias, read))
        if means is not None:
            groups = next((each.i for each in node.attribute if each.name == "group"), 1)
            bias = bias - shift(exact, weights, groups, means)
        return Integer(weights, bias)

    def _means(self) -> dict[str, tuple[Any, Any]]:
        """The mean of every channel that a convolution reads, as floats and rounded, by convolution."""
        reads = {name: self.structure.layers[name].input[0] for name in self.names}
        values = sorted(set(reads.values()))
        view = self.view.spread(_BIAS_IMAGES)
        totals: dict[str, Any] = dict.fromkeys(values, 0.0)
        for made in run(self.model, values, view, self.context):
            for value, array in zip(values, made, strict=True):
                both = np.stack([array[0], self.grids[value].round(array[0])])
                pixels = tuple(range(2, both.ndim))
                totals[value] = totals[value] + both.mean(pixels, dtype=np.float64)
        return {name: tuple(totals[value] / len(view)) for name, value in reads.items()}
