"""The Android backend: YOLO models for ncnn, an inference library for Arm CPUs.

An artifact is a folder with two files: `model.ncnn.param` (the graph, as text) and
`model.ncnn.bin` (the weights).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from yolodeploy.backend import Step, Worker
from yolodeploy.compress import refuse_missing
from yolodeploy.system import installed, missing
from yolodeploy_ncnn import advice
from yolodeploy_ncnn.advice import SUGGESTED as SUGGESTED
from yolodeploy_ncnn.devices import DEVICES as DEVICES
from yolodeploy_ncnn.export import NcnnExport, run_export
from yolodeploy_ncnn.int8 import probe_quantize, run_quantize
from yolodeploy_ncnn.params import Quantize
from yolodeploy_ncnn.w8 import W8, probe_w8, run_w8

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.backend import (
        Advice,
        Artifact,
        GpuHere,
        Inspected,
        Interface,
        LayerBytes,
        NativeJob,
        NativeWork,
        Params,
        Predictor,
        Remote,
        Situation,
        Target,
    )

NAME = "ncnn"

WORKER = Worker("yolodeploy_ncnn.runtime.worker", requires=("ncnn", "numpy"), pinned=("ncnn",))

_FAST_INT8 = frozenset({"dotprod", "i8mm"})
_INT8_ON_A_GPU = (
    "`quantize` with `gpu: vulkan` would gain nothing that anybody measured: ncnn before July 2026 computes int8 layers "
    "on the CPU, and its int8 kernels for GPUs are untried on phones. Use `w8`: the file gets as small, the GPU computes in fp16."
)

STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces=NAME,
        params=NcnnExport,
        run=run_export,
        revision=2,
        reference=lambda params: params.model_copy(update={"precision": "fp32"}),
    ),
    Step(name="w8", accepts=NAME, produces=NAME, params=W8, run=run_w8, probe=probe_w8),
    Step(
        name="quantize",
        accepts=NAME,
        produces=NAME,
        params=Quantize,
        run=run_quantize,
        reads=("calibration",),
        probe=probe_quantize,
    ),
)

REFUSED_STEPS: Mapping[str, str] = {
    "sparsify": "gains nothing here: NCNN stores and multiplies a zero like any other weight. Use "
    "`prune` before `export`, which leaves a smaller dense model, or remove it.",
}

REFUSED_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "export": {
        "batch": "gains nothing here: ncnn has no batch dimension, and a phone gets one camera frame at a "
        "time. Remove it, or choose an Intel CPU or GPU as the target.",
    },
}


def versions() -> Mapping[str, str]:
    """Versions of everything that can change the bytes of a step."""
    return installed("ncnn", "numpy", "pnnx", "torch")


def problem() -> str | None:
    """Name the distributions that are missing, with the remedy; None if all are installed."""
    return missing("ncnn", "ncnn", "pnnx", "torch")


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001 - the contract's signature
    """Refuse int8 where it gains nothing or cannot work; every Arm CPU from Armv7 on runs the rest."""
    if not isinstance(params, Quantize):
        return None
    if target.gpu:
        return _INT8_ON_A_GPU
    if target.device.generic:
        return (
            f"`{target.device.name}` stands for devices without an int8 dot product (FEAT_DotProd) too, on "
            "which int8 is not faster than float. Name the device, or use `w8`: the file gets as small."
        )
    if not target.device.features & _FAST_INT8:
        return (
            f"the {target.device.title} has no int8 dot product (FEAT_DotProd), without which int8 is "
            "not faster than float. Use `w8`: the file gets as small, the arithmetic stays float."
        )
    return refuse_missing(params.keep_float, "box decoding in int8 loses every box")


def advise(situation: Situation, target: Target) -> Advice:
    """Say what to begin with."""
    int8 = refuse(STEPS[-1], Quantize(), target) is None
    return advice.advise(situation, target, int8=int8)


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001 - the contract's name
    """Open an artifact in the ncnn wheel; see `runtime.NcnnPredictor`.

    It runs on this machine's CPU, and on its Vulkan device where the target names a GPU.
    """
    from yolodeploy_ncnn.runtime import NcnnPredictor

    return NcnnPredictor(artifact.path, threads, target.device if target.gpu else None)


def gpu_here(target: Target) -> GpuHere:  # noqa: ARG001 - the contract's signature
    """The Vulkan device on which artifacts for a GPU are measured here."""
    from yolodeploy_ncnn.gpu import gpu_here

    return gpu_here()


def remote(artifact: Artifact, target: Target) -> Remote:
    """Say how a host with the ncnn wheel runs the artifact: on its GPU where the target names one."""
    from yolodeploy_ncnn.runtime import remote

    return remote(artifact, vulkan=target.gpu is not None)


def find_native(machine: str) -> Path:
    """The program that runs artifacts on a machine without Python."""
    from yolodeploy_ncnn.runner import find_native

    return find_native(machine)


def native_job(work: NativeWork) -> NativeJob:
    """Put work in the words of that program."""
    from yolodeploy_ncnn.runner import native_job

    return native_job(work)


def describe(artifact: Artifact) -> Interface:
    """Describe how an app feeds the network and reads its outputs, whose shapes ncnn itself says."""
    from yolodeploy_ncnn import interface

    return interface.describe(artifact)


def inspect(path: Path) -> Inspected | None:
    """What a network is, from its files alone."""
    from yolodeploy_ncnn.inspection import inspect

    return inspect(path)


def layer_bytes(artifact: Artifact) -> Sequence[LayerBytes]:
    """List what each layer takes in the artifact's files."""
    from yolodeploy_ncnn.inspection import layer_bytes

    return layer_bytes(artifact)


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Take the artifact's files apart, to say where two of them differ."""
    from yolodeploy_ncnn.diff import parts

    return parts(artifact)
