"""The iOS backend: YOLO detectors as Core ML packages.

An artifact is a folder with one `model.mlpackage`, an ML program for iOS 15 to 18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.backend import Step, installed, missing
from yolodeploy_coreml.devices import DEVICES as DEVICES
from yolodeploy_coreml.devices import refusal, step_refusal
from yolodeploy_coreml.params import (
    CoreMLExport,
    Palettize,
    Quantize,
    QuantizeWeights,
    Sparsify,
    calibrated,
    plain_float,
)

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context, Interface, Predictor, Probe, Target
    from yolodeploy.transforms import Params
    from yolodeploy_coreml.params import WeightParams

NAME = "coreml"

_DISTRIBUTIONS = ("coremltools", "numpy", "protobuf", "torch")


def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_coreml.export import run_export

    return run_export(artifact, params, context)


def _palettize(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_coreml.compress import run_palettize

    return run_palettize(artifact, params, context)


def _quantize_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_coreml.compress import run_quantize_weights

    return run_quantize_weights(artifact, params, context)


def _sparsify(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_coreml.sparsify import run_sparsify

    return run_sparsify(artifact, params, context)


def _probe_palettize(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_coreml.compress import probe_palettize

    return probe_palettize(artifact, params, context)


def _probe_quantize_weights(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_coreml.compress import probe_quantize_weights

    return probe_quantize_weights(artifact, params, context)


def _probe_sparsify(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_coreml.sparsify import probe_sparsify

    return probe_sparsify(artifact, params, context)


def _weight_step(
    name: str,
    params: type[WeightParams],
    run: Callable[[Artifact, Params, Context], Path],
    probe: Callable[[Artifact, Params, Context], Probe],
    revision: int = 1,
) -> Step:
    return Step(
        name, "mlpackage", "mlpackage", params, run, revision, reads=calibrated, probe=probe
    )


def _quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_coreml.quantize import run_quantize

    return run_quantize(artifact, params, context)


def _quantize_probe(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_coreml.quantize import probe_quantize

    return probe_quantize(artifact, params, context)


STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces="mlpackage",
        params=CoreMLExport,
        run=_export,
        reference=plain_float,
    ),
    _weight_step("palettize", Palettize, _palettize, _probe_palettize, 2),
    _weight_step(
        "quantize_weights", QuantizeWeights, _quantize_weights, _probe_quantize_weights, 2
    ),
    _weight_step("sparsify", Sparsify, _sparsify, _probe_sparsify),
    Step(
        "quantize",
        "mlpackage",
        "mlpackage",
        Quantize,
        _quantize,
        reads=("calibration",),
        probe=_quantize_probe,
    ),
)


def versions() -> Mapping[str, str]:
    """Versions of everything that can change a package's bytes."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Name the distributions that are missing, with the remedy."""
    return missing("coreml", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:
    """Refuse an iOS version that no package is made for, or that lacks what the step writes."""
    return refusal(target) or step_refusal(step.name, params, target)


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001 - the contract's name
    """Open the package in Core ML on a Mac, elsewhere in our executor of the saved program."""
    from yolodeploy_coreml.package import PACKAGE
    from yolodeploy_coreml.runtime import open_package

    return open_package(artifact.path / PACKAGE, threads)


def describe(artifact: Artifact) -> Interface:
    """How an app feeds the package and reads it; shapes come from the file."""
    from yolodeploy_coreml.interface import read_interface

    return read_interface(artifact.path)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's files apart, to say where two of them differ."""
    from yolodeploy_coreml import anatomy

    return anatomy.parts(artifact.path)
