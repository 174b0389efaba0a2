"""Importing OpenVINO and NNCF, and reading and writing models: the one place for their quirks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolodeploy.errors import StepFailed

MODEL_FILE = "model.xml"
OTHER_VERSION = "Try the version that the recipe's lock file names."


def openvino() -> Any:
    """Import OpenVINO without its usage reporting.

    OpenVINO reports every import and conversion to its maker, and keeps a client id in the home
    folder, if the package `openvino_telemetry` can be imported; otherwise it uses a stub.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def nncf() -> Any:
    """Import NNCF silently, without its usage reporting.

    It logs to standard output, and makes PyTorch look for CUDA, which complains if there is none.
    """
    openvino()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    module = importlib.import_module("nncf")
    module.set_log_level(logging.ERROR)
    return module


def read_model(folder: Path) -> Any:
    """Read the IR in a folder; raises StepFailed if it is damaged."""
    with failing(f"read {folder / MODEL_FILE}", "Build it again."):
        model = openvino().Core().read_model(folder / MODEL_FILE)
        for operation in model.get_ops():
            operation.get_friendly_name()  # the reader accepts names that are not text
    return model


def save_model(model: Any, folder: Path, *, half: bool = False) -> None:
    """Write `model.xml` and `model.bin`, floats as fp16 if `half`, without traces of this process."""
    for key in list(model.rt_info):
        del model.rt_info[key]
    for number, node in enumerate(model.get_ordered_ops()):
        # Nodes without a name of their own are numbered by a counter that runs on in the process.
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
    openvino().save_model(model, folder / MODEL_FILE, compress_to_fp16=half)


@contextlib.contextmanager
def failing(action: str, remedy: str, tool: str = "openvino") -> Iterator[None]:
    """Turn an error of OpenVINO or NNCF into StepFailed: which version cannot do the `action`, and why."""
    try:
        yield
    except (RuntimeError, UnicodeDecodeError) as error:
        name = {"openvino": "OpenVINO", "nncf": "NNCF"}[tool]
        found = version(importlib.import_module(tool))
        raise StepFailed(
            f"{name} {found} cannot {action}: {_first_line(error)}. {remedy}"
        ) from error


def version(module: Any) -> str:
    """The release without the build: 2025.2.0, not 2025.2.0-19140-c01cd93e24d-releases."""
    return str(module.__version__).partition("-")[0]


def _first_line(error: Exception) -> str:
    """The first informative line of a message; OpenVINO's messages start with a place in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check"))]
    return (telling or lines or [type(error).__name__])[0]
