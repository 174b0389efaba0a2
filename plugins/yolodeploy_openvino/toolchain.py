"""The one place where OpenVINO and NNCF are imported."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any


def openvino() -> Any:
    """Import OpenVINO without its usage reporting.

    OpenVINO reports every import and conversion to its maker, and keeps a client id in the
    home folder, if the package `openvino_telemetry` can be imported; if not, it uses a stub.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def nncf() -> Any:
    """Import NNCF without its usage reporting, and silent.

    It logs to standard output, and has PyTorch look for CUDA, which complains if there is none.
    """
    openvino()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    module = importlib.import_module("nncf")
    module.set_log_level(logging.ERROR)
    return module


def version(ov: Any) -> str:
    """Return the release, without the build: 2025.2.0, not 2025.2.0-19140-c01cd93e24d-releases."""
    return str(ov.__version__).partition("-")[0]


def first_line(error: Exception) -> str:
    """Return the first line of a message that says something; OpenVINO's start with a place."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check"))]
    return (telling or lines or [type(error).__name__])[0]
