"""Other processes of ours: they import what this one imports, and nothing from where the user stands."""

from __future__ import annotations

import os
import sys

PASSPHRASE = "YOLODEPLOY_KEY_PASSPHRASE"  # noqa: S105 - the name of the variable


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module; -P, because a folder of a stranger may hold a `json.py`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment with its import path, and without what is for this one alone."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
    kept = {name: value for name, value in os.environ.items() if name != PASSPHRASE}
    return {**kept, "PYTHONPATH": path}
