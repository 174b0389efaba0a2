"""Intel: exports to OpenVINO IR and runs it in OpenVINO.

Its artifact format is "openvino": a folder with `model.xml` and `model.bin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from yolodeploy.backend import (
    Artifact,
    Context,
    Interface,
    Predictor,
    Probe,
    Step,
    Target,
    installed,
    missing,
)
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.transforms import Export, Params
from yolodeploy_openvino.devices import DEVICES as DEVICES
from yolodeploy_openvino.params import CompressWeights, Quantize

NAME = "openvino"

_DISTRIBUTIONS = ("openvino", "torch", "safetensors", "numpy")
_QUANTIZERS = ("nncf",)
_UNTOUCHED = ("dfl", "decode")


def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_openvino.export import export

    return export(artifact, cast("Export", params), context)


def _quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    if reason := missing("openvino", *_QUANTIZERS):
        raise EnvironmentProblem(reason)
    from yolodeploy_openvino.quantize import quantize

    return quantize(artifact, cast("Quantize", params), context)


def _probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    if reason := missing("openvino", *_QUANTIZERS):
        raise EnvironmentProblem(reason)
    from yolodeploy_openvino.quantize import probe

    return probe(artifact, cast("Quantize", params), context)


def _compress_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_openvino.compress import compress_weights

    return compress_weights(artifact, cast("CompressWeights", params), context)


def _probe_weights(artifact: Artifact, params: Params, context: Context) -> Probe:
    from yolodeploy_openvino.compress import probe

    return probe(artifact, cast("CompressWeights", params), context)


def _plain(params: Params) -> Params:  # noqa: ARG001
    return Export(precision="fp32")


STEPS = (
    Step("export", "yolo", "openvino", Export, _export, reference=_plain),
    Step(
        "quantize",
        "openvino",
        "openvino",
        Quantize,
        _quantize,
        reads=("calibration",),
        tools=_QUANTIZERS,
        revision=2,
        probe=_probe_quantize,
    ),
    Step(
        "compress_weights",
        "openvino",
        "openvino",
        CompressWeights,
        _compress_weights,
        probe=_probe_weights,
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
    """Why this machine cannot run the plugin, with the remedy; None if it can."""
    return missing("openvino", *_DISTRIBUTIONS)


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """Every device here runs float and 8-bit models; what is unsound or unproven is refused."""
    if isinstance(params, Quantize):
        return _decoding_in_8_bits(params)
    if isinstance(params, CompressWeights):
        if "dfl" not in params.keep_float:
            kept = ", ".join((*params.keep_float, "dfl"))
            return f"`keep_float` leaves out `dfl`, which every box depends on. Write keep_float: [{kept}]."
        return _no_int4(target) if params.bits == 4 else None
    return None


def _decoding_in_8_bits(params: Quantize) -> str | None:
    absent = [part for part in _UNTOUCHED if part not in params.keep_float]
    if not absent:
        return None
    return (
        f"`keep_float` leaves out {' and '.join(f'`{part}`' for part in absent)}: boxes in pixels and "
        f"scores in 0..1 do not fit one 8-bit range. Write keep_float: "
        f"[{', '.join((*params.keep_float, *absent))}]."
    )


def _no_int4(target: Target) -> str | None:
    unit = target.device.options["unit"]
    if unit == "CPU":
        return None
    return (
        f"`bits: 4`: convolutions with int4 weights are known to run on a CPU, not on the {unit} of "
        f"{target.device.title}. Use bits: 8, or a device whose unit is the CPU."
    )


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    """Compile the artifact with OpenVINO, on the device's unit if this machine has it."""
    from yolodeploy_openvino.runtime import OpenVINOPredictor

    return OpenVINOPredictor(artifact.path, target, threads)


def describe(artifact: Artifact) -> Interface:
    """How an app feeds the artifact and reads it, from the model file itself."""
    from yolodeploy_openvino.runtime import describe as described

    return described(artifact.path)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's files apart, to say where two of them differ."""
    from yolodeploy_openvino import anatomy

    return anatomy.parts(artifact.path)
