"""ONNX Runtime: exports to ONNX and runs it in ONNX Runtime, on PCs, Arm boards, phones and in browsers.

Its artifact format is "onnxruntime": a folder with `model.onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from yolodeploy.backend import Step, Worker
from yolodeploy.compress import refuse_missing
from yolodeploy.system import installed, missing
from yolodeploy_onnxruntime.advice import SUGGESTED as SUGGESTED
from yolodeploy_onnxruntime.advice import advise as advise
from yolodeploy_onnxruntime.devices import DEVICES as DEVICES
from yolodeploy_onnxruntime.int8 import probe_quantize, run_quantize
from yolodeploy_onnxruntime.params import W8, Export, Quantize

if TYPE_CHECKING:
    from pathlib import Path

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
        Server,
        Target,
    )

NAME = "onnxruntime"

WORKER = Worker(
    "yolodeploy_onnxruntime.worker", requires=("onnxruntime", "numpy"), pinned=("onnxruntime",)
)

_DISTRIBUTIONS = ("onnx", "onnxruntime", "torch", "safetensors", "numpy")


def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_onnxruntime.export import run_export

    return run_export(artifact, params, context)


def _w8(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_onnxruntime.w8 import run_w8

    return run_w8(artifact, params, context)


def _probe_w8(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_onnxruntime.w8 import probe_w8

    return probe_w8(artifact, params, context)


STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces=NAME,
        params=Export,
        run=_export,
        reference=lambda _: Export(precision="fp32"),
        takes_onnx=True,
    ),
    Step(
        name="quantize",
        accepts=NAME,
        produces=NAME,
        params=Quantize,
        run=run_quantize,
        reads=("calibration",),
        probe=probe_quantize,
    ),
    Step(name="w8", accepts=NAME, produces=NAME, params=W8, run=_w8, probe=_probe_w8),
)

REFUSED_STEPS: Mapping[str, str] = {
    "sparsify": "gains nothing here: ONNX Runtime stores and multiplies a zero like any other weight. Use "
    "`prune` before `export`, which leaves a smaller dense model, or remove it.",
}

REFUSED_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "export": {
        "arithmetic": "has no effect here: an execution provider decides how floats are computed, and the "
        "CPU's computes in fp32. Remove it.",
    },
}

_SERVERS = frozenset({"linux", "Windows"})


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Name the distributions that are missing, with the remedy; None if all are installed."""
    return missing("onnxruntime", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001 - the contract's signature
    """Refuse what loses boxes or gains nothing; every device runs float and 8-bit models."""
    device = target.device
    if isinstance(params, Export) and params.batch > 1 and device.os not in _SERVERS:
        return (
            f"`batch: {params.batch}` gains nothing on {device.name}, which gets one camera frame at a time. "
            "Remove it, or choose a PC or a server as the target."
        )
    if isinstance(params, Quantize):
        why = "boxes in pixels and scores in 0..1 do not fit one 8-bit range"
        return refuse_missing(params.keep_float, why)
    if isinstance(params, W8):
        return refuse_missing(params.keep_float, "every box depends on it", ("dfl",))
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001 - the contract's name
    """Open the artifact in ONNX Runtime, with the device's execution provider if this machine has it."""
    from yolodeploy_onnxruntime.runtime import OnnxPredictor

    return OnnxPredictor(artifact.path, target, threads)


def serve(artifact: Artifact, target: Target, threads: int) -> Server:
    """Open the artifact for throughput: a request of its own on every thread."""
    from yolodeploy_onnxruntime.runtime import serve

    return serve(artifact.path, target, threads)


def remote(artifact: Artifact, target: Target) -> Remote:
    """Say how a host with the onnxruntime wheel runs the artifact."""
    from yolodeploy_onnxruntime.runtime import remote

    return remote(artifact.path, target)


def describe(artifact: Artifact) -> Interface:
    """Describe how an app feeds the artifact and reads its output, from the model file itself."""
    from yolodeploy_onnxruntime.runtime import describe

    return describe(artifact.path)


def layer_bytes(artifact: Artifact) -> Sequence[LayerBytes]:
    """List what each layer takes in the artifact's files."""
    from yolodeploy_onnxruntime.sizes import layer_bytes

    return layer_bytes(artifact.path)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's file apart, to say where two of them differ."""
    from yolodeploy_onnxruntime.diff import parts

    return parts(artifact.path)


def inspect(path: Path) -> Inspected | None:
    """What a file or folder is that this backend wrote; None if it is something else."""
    from yolodeploy_onnxruntime.runtime import inspect

    return inspect(path)
