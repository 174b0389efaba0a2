"""Intel: exports to OpenVINO IR and runs it in OpenVINO.

Its artifact format is "openvino": a folder with `model.xml` and `model.bin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolodeploy.backend import (
    Artifact,
    Inspected,
    Interface,
    LayerBytes,
    Params,
    Predictor,
    Remote,
    Server,
    Step,
    Target,
    Worker,
)
from yolodeploy.compress import refuse_missing
from yolodeploy.system import installed, missing
from yolodeploy_openvino.advice import SUGGESTED as SUGGESTED
from yolodeploy_openvino.advice import advise as advise
from yolodeploy_openvino.compress import probe_compress_weights, run_compress_weights
from yolodeploy_openvino.devices import DEVICES as DEVICES
from yolodeploy_openvino.export import run_export
from yolodeploy_openvino.int8 import TOOLS, probe_quantize, run_quantize
from yolodeploy_openvino.params import CompressWeights, Export, Quantize

NAME = "openvino"

WORKER = Worker("yolodeploy_openvino.worker", requires=("openvino", "numpy"), pinned=("openvino",))

_DISTRIBUTIONS = ("openvino", "torch", "safetensors", "numpy")

STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces=NAME,
        params=Export,
        run=run_export,
        takes_onnx=True,
        revision=2,
        reference=lambda _: Export(precision="fp32"),
    ),
    Step(
        name="quantize",
        accepts=NAME,
        produces=NAME,
        params=Quantize,
        run=run_quantize,
        revision=3,
        reads=("calibration",),
        tools=TOOLS,
        probe=probe_quantize,
    ),
    Step(
        name="compress_weights",
        accepts=NAME,
        produces=NAME,
        params=CompressWeights,
        run=run_compress_weights,
        probe=probe_compress_weights,
    ),
)

REFUSED_STEPS: Mapping[str, str] = {
    "sparsify": "gains nothing here: OpenVINO stores and multiplies the zeros of a convolution like "
    "any other weight. Use `prune` before `export`, which leaves a smaller dense model, or remove it.",
}


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    return installed(*_DISTRIBUTIONS)


def problem() -> str | None:
    """Name the distributions that are missing, with the remedy; None if all are installed."""
    return missing("openvino", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """Refuse what loses boxes or is not known to run; every device here runs float and 8-bit models."""
    unit = target.device.options["unit"]
    if isinstance(params, Export) and params.batch > 1 and unit == "NPU":
        return (
            f"`batch: {params.batch}` gains nothing on the NPU of {target.device.title}: there OpenVINO "
            "runs a batch as inferences of one image each. Remove it and keep several requests in flight, or "
            "choose a device whose unit is a CPU or GPU."
        )
    if isinstance(params, Quantize):
        why = "boxes in pixels and scores in 0..1 do not fit one 8-bit range"
        return refuse_missing(params.keep_float, why)
    if isinstance(params, CompressWeights):
        missing_dfl = refuse_missing(params.keep_float, "every box depends on it", ("dfl",))
        if missing_dfl is None and params.bits == 4 and unit != "CPU":
            return (
                f"`bits: 4`: convolutions with int4 weights are known to run on a CPU, not on the {unit} "
                f"of {target.device.title}. Use bits: 8, or a device whose unit is the CPU."
            )
        return missing_dfl
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    """Compile the artifact with OpenVINO, on the device's unit if this machine has it."""
    from yolodeploy_openvino.runtime import OpenVINOPredictor

    return OpenVINOPredictor(artifact.path, target, threads)


def serve(artifact: Artifact, target: Target, threads: int) -> Server:
    """Compile the artifact for throughput: as many requests at once as OpenVINO finds best."""
    from yolodeploy_openvino.runtime import serve

    return serve(artifact.path, target, threads)


def remote(artifact: Artifact, target: Target) -> Remote:
    """Say how a host with the openvino wheel runs the artifact, on the target's unit."""
    from yolodeploy_openvino.runtime import remote

    return remote(artifact.path, target)


def describe(artifact: Artifact) -> Interface:
    """Describe how an app feeds the artifact and reads its output, from the model file itself."""
    from yolodeploy_openvino.runtime import describe

    return describe(artifact.path)


def inspect(path: Path) -> Inspected | None:
    """What an IR is, from its files alone."""
    from yolodeploy_openvino.runtime import inspect

    return inspect(path)


def layer_bytes(artifact: Artifact) -> Sequence[LayerBytes]:
    """List what each layer takes in the artifact's files."""
    from yolodeploy_openvino.sizes import layer_bytes

    return layer_bytes(artifact.path)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's files apart, to say where two of them differ."""
    from yolodeploy_openvino.diff import parts

    return parts(artifact.path)
