"""Where `build.sh` puts what it builds."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from yolodeploy.errors import EnvironmentProblem

SOURCES = Path(__file__).parent  # the program in `cpp/`, `build.sh`, `README.md`
Architecture = Literal["native", "arm64", "android"]


def library(architecture: Architecture) -> Path:
    """The folder of ncnn as the installed wheel's version, built for an architecture; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = os.environ.get("YOLODEPLOY_NCNN") or Path(cache) / "yolodeploy-ncnn"
    try:
        return Path(root) / f"{version('ncnn')}-{architecture}"
    except PackageNotFoundError:
        raise EnvironmentProblem(
            "ncnn is not installed, whose version the runner must have. Run: pip install 'yolodeploy[ncnn]'"
        ) from None


def find_runner(architecture: Architecture) -> Path:
    """The runner for an architecture; EnvironmentProblem, with the command that builds it, if there is none."""
    found = library(architecture) / "runner" / "ncnn-runner"
    if not found.is_file():
        raise EnvironmentProblem(
            f"there is no runner at {found}. Build it, which takes some minutes once: "
            f"{SOURCES / 'build.sh'} --arch {architecture}"
        )
    return found


def runner_layers() -> frozenset[str]:
    """The types of layers that the runner's ncnn has; it cannot read a network with others."""
    lines = (SOURCES / "layers.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))
