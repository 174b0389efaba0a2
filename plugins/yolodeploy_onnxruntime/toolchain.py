"""Opening models in ONNX Runtime, with what it says as StepFailed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from yolodeploy.errors import StepFailed
from yolodeploy_onnxruntime import worker


def session(
    model: bytes | Path, action: str, threads: int, providers: Sequence[str] = (worker.CPU,)
) -> Any:
    """Open a model; raises StepFailed, naming the `action`, if ONNX Runtime refuses it."""
    with failing(action):
        return worker.session(model, threads, providers)


@contextlib.contextmanager
def failing(action: str) -> Iterator[None]:
    """Turn what the worker's code says of ONNX Runtime into StepFailed."""
    try:
        yield
    except RuntimeError as error:
        raise StepFailed(
            f"ONNX Runtime {onnxruntime.__version__} cannot {action}: {error}. Build it again; if it fails "
            "again, try the version that the recipe's lock file names."
        ) from error
