"""An example backend: ONNX files for ONNX Runtime on the CPU.

Importing this module must stay cheap. Only the submodules import torch, onnx and onnxruntime,
and they are imported inside the functions that need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yolodeploy.backend import (
    Artifact,
    Context,
    Device,
    Export,
    Interface,
    Params,
    Predictor,
    Step,
    Target,
)
from yolodeploy.system import installed, missing

NAME = "onnxruntime"


def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_onnx.export import run

    return run(artifact, params, context)


STEPS = (
    Step(
        name="export",
        accepts="yolo",
        produces="onnx",
        params=Export,
        run=_export,
        reference=lambda params: params.model_copy(update={"precision": "fp32"}),
    ),
)

DEVICES = (
    Device(
        name="windows-x64",
        title="PC with Windows 10 or later and an x86-64 processor",
        os="Windows",
        os_min="10",
        source="https://onnxruntime.ai/docs/install/",
    ),
)


def versions() -> Mapping[str, str]:
    """Return the versions of everything that can change the bytes of a step."""
    return installed("torch", "onnx", "numpy")


def problem() -> str | None:
    """Say what is not installed, with the remedy; None if nothing is missing."""
    return missing("torch", "torch", "onnx", "onnxruntime")


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """Refuse nothing: ONNX Runtime runs every artifact of this backend on each of its devices."""
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001
    """Open an artifact in ONNX Runtime on this machine's CPU."""
    from yolodeploy_onnx.runtime import OnnxPredictor

    return OnnxPredictor(artifact.path, threads)


def describe(artifact: Artifact) -> Interface:
    """Read names and shapes of inputs and outputs from the file."""
    from yolodeploy_onnx.runtime import interface

    return interface(artifact.path)
