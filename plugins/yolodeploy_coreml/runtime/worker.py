"""Runs a package in Core ML on a Mac; it also travels to hosts, so it imports nothing that stays here.

Written from the API reference of coremltools 9 (`MLModel`, `MLComputePlan`) and never run on a Mac, as its note in
every report says.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolodeploy.worker.machine import cpu_name

UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")  # of coremltools.ComputeUnit
GREY = 1  # channels
_UNTRIED = "this code has not been run on a Mac by those who wrote it"
_KINDS = {
    "MLNeuralEngineComputeDevice": "the Neural Engine",
    "MLGPUComputeDevice": "the GPU",
    "MLCPUComputeDevice": "the CPU",
}  # coremltools, models/compute_device.py


class Program:
    """The ML program of a package on some compute units; of a pipeline the stage in front of its suppression.

    `folder` holds the package. coremltools rewrites `Manifest.json` of a package that it opens by its path, so it gets the
    parsed program and the folder of weights, which it copies. Raises RuntimeError with the reason if Core ML cannot load them.
    """

    def __init__(self, folder: Path, package: str, units: str) -> None:
        if units not in UNITS:
            raise RuntimeError(f"there are no compute units {units}: {', '.join(UNITS)}")
        tools: Any = importlib.import_module("coremltools")
        self._units = tools.ComputeUnit[units]
        data = folder / package / "Data" / "com.apple.CoreML"
        spec = tools.proto.Model_pb2.Model.FromString((data / "model.mlmodel").read_bytes())
        try:
            self.model: Any = tools.models.MLModel(
                _program_of(spec), weights_dir=str(data / "weights"), compute_units=self._units
            )
        except Exception as error:  # coremltools raises any class
            raise RuntimeError(f"Core ML cannot load the package: {_line(error)}") from error
        self.version = f"macOS {platform.mac_ver()[0]}, coremltools {tools.__version__}"

    def __call__(self, name: str, image: Any) -> Mapping[str, Any]:
        """Run float32 `[channels, H, W]` in 0..1, rounded to the 8-bit pixels that Core ML takes."""
        pixels = (np.transpose(image, (1, 2, 0)) * 255).round().clip(0, 255).astype(np.uint8)
        if pixels.shape[2] == GREY:
            pixels = pixels[..., 0]
        found: Mapping[str, Any] = self.model.predict({name: _pillow().fromarray(pixels)})
        return found

    def placed(self) -> Placement:
        """Where Core ML plans to run the operations."""
        plans = importlib.import_module("coremltools.models.compute_plan")
        compiled = self.model.get_compiled_model_path()
        plan = plans.MLComputePlan.load_from_path(path=compiled, compute_units=self._units)
        return Placement.of(plan)


@dataclass(frozen=True)
class Placement:
    """How many operations Core ML prefers to run on each unit, and the share of the cost that it expects there.

    `unknown` counts the operations of which Core ML says nothing; constants are among them.
    """

    counts: Mapping[str, int]
    costs: Mapping[str, float]
    unknown: int

    @classmethod
    def of(cls, plan: Any) -> Placement:
        """Read an `MLComputePlan` of an ML program."""
        counts: dict[str, int] = {}
        costs: dict[str, float] = {}
        unknown = 0
        for operation in _operations(plan.model_structure.program.functions["main"].block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is None:
                unknown += 1
                continue
            kind = type(usage.preferred_compute_device).__name__
            unit = _KINDS.get(kind, kind)
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            counts[unit] = counts.get(unit, 0) + 1
            costs[unit] = costs.get(unit, 0.0) + (cost.weight if cost else 0.0)
        return cls(counts, costs, unknown)

    def __str__(self) -> str:
        units = sorted(self.counts, key=lambda unit: -self.counts[unit])
        parts = [
            f"{unit} {self.counts[unit]} ({self.costs[unit]:.0%} of the cost)" for unit in units
        ]
        return f"of {sum(self.counts.values())} operations Core ML plans {', '.join(parts)}"


class Model:
    """A package as a worker runs it; its note has the placement."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        units = str(options.get("host", {}).get("units", UNITS[0]))
        self._input = str(options["input"])
        self._outputs = [str(name) for name in options["outputs"]]
        self._labels = [str(label) for label in options["labels"]]
        self._program = Program(folder, str(options["package"]), units)
        self.runtime = {
            "name": "Core ML",
            "version": self._program.version,
            "device": f"{cpu_name()}, compute units {units}",
            "note": f"{_UNTRIED}; {self._placed()}",
        }

    def __call__(self, images: Any) -> dict[str, Any]:
        """Run float32 `[N, channels, H, W]` images; returns, by name, what Core ML returned for each, `[N, ...]`."""
        rows = [self._program(self._input, image) for image in images]
        return {name: np.stack([self._array(row[name]) for row in rows]) for name in self._outputs}

    def _array(self, value: Any) -> Any:
        """An output as float32; of a classifier that is a mapping from labels to probabilities."""
        if self._labels:
            return np.array([value[label] for label in self._labels], np.float32)
        return np.asarray(value, np.float32)

    def _placed(self) -> str:
        try:
            return str(self._program.placed())
        except Exception as error:  # noqa: BLE001 - older systems have no compute plan
            return f"Core ML gives no compute plan: {_line(error)[:80]}"


def open(folder: Path, options: Mapping[str, Any], threads: int) -> Model:  # noqa: A001, ARG001 - the contract's; Core ML chooses its threads
    """Open the artifact in a folder; `options` name `package`, `input`, `outputs` and `labels`, and the `units` of the host."""
    return Model(folder, options)


def _program_of(spec: Any) -> Any:
    """The model that holds the program: `spec` itself, or a pipeline's first such stage."""
    stages: Sequence[Any] = (
        spec.pipeline.models if spec.WhichOneof("Type") == "pipeline" else [spec]
    )
    return next(stage for stage in stages if stage.WhichOneof("Type") == "mlProgram")


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inside in operation.blocks:
            yield from _operations(inside)


def _pillow() -> Any:
    return importlib.import_module("PIL.Image")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
