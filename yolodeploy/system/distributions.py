"""Which versions of Python distributions are installed."""

from __future__ import annotations

import importlib.metadata
from functools import cache


def installed(*distributions: str) -> dict[str, str]:
    """Look up the versions of distributions by name; "missing" for one that is not installed."""
    return {name: _version(name) for name in distributions}


def missing(extra: str, *distributions: str) -> str | None:
    """Say which distributions are not installed and which extra installs them; None if none is missing."""
    absent = [name for name, version in installed(*distributions).items() if version == "missing"]
    if not absent:
        return None
    return f"{', '.join(absent)} not installed. Run: pip install 'yolodeploy[{extra}]'"


@cache  # reading metadata takes milliseconds, and every step asks
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
