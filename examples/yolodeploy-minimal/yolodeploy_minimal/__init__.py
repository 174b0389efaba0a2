"""A minimal backend: ONNX files for ONNX Runtime on the CPU.

Importing this module must stay cheap. Only the submodules import torch, onnx and onnxruntime,
and they are imported inside the functions that need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from yolodeploy.backend import (
    Artifact,
    Context,
    Device,
    Interface,
    ModelInfo,
    Params,
    Predictor,
    Step,
    Target,
)
from yolodeploy.system import installed, missing

NAME = "minimal"


class Export(Params):
    """Write the model as an ONNX file."""

    precision: Literal["fp32"] = Field(default="fp32", description="Storage type of the weights.")


def _export(artifact: Artifact, params: Params, context: Context) -> Path:
    from yolodeploy_minimal.export import run

    return run(artifact, params, context)


def _fits(params: Params, model: ModelInfo) -> str | None:  # noqa: ARG001
    """Why a model cannot be exported: its predictor returns one array, and a model for masks gives two."""
    if model.task != "segment":
        return None
    return "a model for `segment` has two outputs, and this backend returns one. Choose a device of another backend."


STEPS = (
    Step(name="export", accepts="yolo", produces="minimal", params=Export, run=_export, fits=_fits),
)

DEVICES = (
    Device(
        name="minimal-pc",
        title="PC with an x86-64 processor (generic)",
        os="linux",
        source="https://onnxruntime.ai/docs/install/",
        generic=True,
    ),
)


def versions() -> Mapping[str, str]:
    """Return the versions of everything that can change the bytes of a step."""
    return installed("torch", "onnx", "numpy")


def problem() -> str | None:
    """Say what is not installed, with the remedy; None if nothing is missing."""
    return missing("torch", "torch", "onnx", "onnxruntime")


def refuse(step: Step, params: Params, target: Target) -> str | None:  # noqa: ARG001
    """Refuse nothing: ONNX Runtime runs every artifact of this backend on its device."""
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001, ARG001
    """Open an artifact in ONNX Runtime on this machine's CPU."""
    from yolodeploy_minimal.runtime import OnnxPredictor

    return OnnxPredictor(artifact.path, threads)


def describe(artifact: Artifact) -> Interface:
    """Read names and shapes of inputs and outputs from the file."""
    from yolodeploy_minimal.runtime import interface

    return interface(artifact.path)
