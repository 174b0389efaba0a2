"""Other Python processes of ours: they import what this one imports, and nothing from where the user stands."""

from __future__ import annotations

import os
import sys


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module; -P, because a folder of a stranger may hold a `json.py`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with its import path."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
    return {**os.environ, "PYTHONPATH": path}
