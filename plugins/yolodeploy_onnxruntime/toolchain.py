"""Importing ONNX Runtime and opening models in it: the one place for its quirks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from yolodeploy.errors import StepFailed

_ERRORS_ONLY = 3
CPU = "CPUExecutionProvider"


def session(
    model: bytes | Path, action: str, threads: int, providers: Sequence[str] = (CPU,)
) -> Any:
    """Open a model; raises StepFailed, naming the `action`, if ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    given = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(given, options, providers=list(providers))
    except Exception as error:
        # Every kind of its errors is a class of its own that derives from Exception alone.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        reason = " ".join(str(error).split())[:200]
        raise StepFailed(
            f"ONNX Runtime {onnxruntime.__version__} cannot {action}: {reason}. Build it again; if it fails "
            "again, try the version that the recipe's lock file names."
        ) from error


def available(wanted: Sequence[str]) -> list[str]:
    """The execution providers among those `wanted` that this machine has, and the CPU's."""
    present = onnxruntime.get_available_providers()
    return [*(name for name in wanted if name in present and name != CPU), CPU]
