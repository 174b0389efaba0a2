"""Start other Python processes that import the same code as this one, and nothing from the current folder."""

from __future__ import annotations

import os
import sys

PASSPHRASE = "YOLODEPLOY_KEY_PASSPHRASE"  # noqa: S105 - the name of the variable


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module; -P, because the current folder may hold a stranger's `json.py`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """This process's environment with its import path, but without the passphrase of the signing key."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
    kept = {name: value for name, value in os.environ.items() if name != PASSPHRASE}
    return {**kept, "PYTHONPATH": path}
