"""The iOS backend: YOLO models as Core ML packages.

An artifact is a folder with one `model.mlpackage`, an ML program for iOS 15 to 26.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from yolodeploy.backend import Step, Worker
from yolodeploy.system import installed, missing
from yolodeploy_coreml import activations, export, mlpackage, runtime, weights
from yolodeploy_coreml.advice import SUGGESTED as SUGGESTED
from yolodeploy_coreml.advice import advise as advise
from yolodeploy_coreml.devices import DEVICES as DEVICES
from yolodeploy_coreml.devices import nms_refusal, refusal
from yolodeploy_coreml.params import CoreMLExport, Palettize, Quantize, QuantizeWeights, Sparsify

if TYPE_CHECKING:
    from yolodeploy.backend import (
        Artifact,
        Context,
        Inspected,
        Interface,
        LayerBytes,
        Params,
        Predictor,
        Probe,
        Remote,
        Target,
    )
    from yolodeploy_coreml.params import WeightParams

NAME = "coreml"

WORKER = Worker(
    "yolodeploy_coreml.runtime.worker",
    requires=("coremltools", "numpy", "pillow"),
    pinned=(),
    options=("units",),
    systems=("Darwin",),
)

_DISTRIBUTIONS = ("coremltools", "numpy", "protobuf", "torch")
_NEWEST_PYTHON = (3, 13)  # that coremltools 9 has a wheel for; pyproject.toml has it too


# Using a name of a package's face imports the toolchain: so only when a step runs.
def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    return export.run_export(artifact, params, context)


def _compress_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    return weights.compress_weights(artifact, params, context)


def _probe_weights(artifact: Artifact, params: Params, context: Context) -> Probe:
    return weights.probe_weights(artifact, params, context)


def _quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    return activations.run_quantize(artifact, params, context)


def _probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    return activations.probe_quantize(artifact, params, context)


def _reads(params: Params) -> tuple[str, ...]:
    return ("calibration",) if cast("WeightParams", params).calibrated else ()


_weight_step = partial(
    Step,
    accepts="mlpackage",
    produces="mlpackage",
    run=_compress_weights,
    probe=_probe_weights,
    reads=_reads,
)

STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces="mlpackage",
        params=CoreMLExport,
        run=_export,
        fits=nms_refusal,
        reference=lambda _params: CoreMLExport(precision="fp32"),
        revision=2,
    ),
    _weight_step(name="palettize", params=Palettize, revision=2),
    _weight_step(name="quantize_weights", params=QuantizeWeights, revision=2),
    _weight_step(name="sparsify", params=Sparsify),
    Step(
        name="quantize",
        accepts="mlpackage",
        produces="mlpackage",
        params=Quantize,
        run=_quantize,
        probe=_probe_quantize,
        reads=("calibration",),
    ),
)

REFUSED_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "export": {
        "batch": "gains nothing here: a phone gets one camera frame at a time, and the package takes one "
        "image, as Vision does. Remove it, or choose an Intel CPU or GPU as the target.",
    },
}


def versions() -> Mapping[str, str]:
    """Versions of everything that can change a package's bytes."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Name the distributions that are missing, with the remedy."""
    if (
        sys.version_info[:2] > _NEWEST_PYTHON
        and installed("coremltools")["coremltools"] == "missing"
    ):
        newest, here = (".".join(map(str, v)) for v in (_NEWEST_PYTHON, sys.version_info[:3]))
        return (
            f"coremltools has no release for Python newer than {newest}, and this is {here}. "
            f"Install yolodeploy under Python 3.11 to {newest} to ship to iOS; the other backends run here"
        )
    return missing("coreml", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:
    """Refuse an iOS version that no package is made for, or that cannot read what the step writes."""
    return refusal(step.name, params, target)


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001 - the contract's name
    """Open the package in Core ML on a Mac, elsewhere in our executor of the saved program."""
    return runtime.open_package(artifact.path / mlpackage.PACKAGE, threads)


def remote(artifact: Artifact, target: Target) -> Remote:  # noqa: ARG001 - the contract's signature
    """Say how a Mac runs the artifact, on the compute units that hosts.toml names. Untried: no Mac was at hand."""
    return runtime.remote(artifact.path / mlpackage.PACKAGE)


def describe(artifact: Artifact) -> Interface:
    """Describe how an app feeds the package and reads it; shapes come from the file."""
    return mlpackage.read_interface(artifact.path)


def inspect(path: Path) -> Inspected | None:
    """What a package is, from its files alone."""
    return mlpackage.inspect(path)


def layer_bytes(artifact: Artifact) -> Sequence[LayerBytes]:
    """List what each layer takes in the artifact's files."""
    return mlpackage.layer_bytes(artifact.path)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's files apart, to say where two of them differ."""
    return mlpackage.parts(artifact.path)
