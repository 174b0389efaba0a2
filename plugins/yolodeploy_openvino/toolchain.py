"""Importing OpenVINO and NNCF, and reading and writing models: the one place for their quirks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolodeploy.errors import StepFailed

MODEL_FILE = "model.xml"
OTHER_VERSION = "Try the version that the recipe's lock file names."


def openvino() -> Any:
    """Import OpenVINO without its usage reporting."""
    from yolodeploy_openvino import worker

    return worker.openvino()


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
        from yolodeploy_openvino.worker import reason

        name = {"openvino": "OpenVINO", "nncf": "NNCF"}[tool]
        found = version(importlib.import_module(tool))
        raise StepFailed(f"{name} {found} cannot {action}: {reason(error)}. {remedy}") from error


def version(module: Any) -> str:
    """The release without the build, see `worker.version`."""
    from yolodeploy_openvino import worker

    return worker.version(module)
