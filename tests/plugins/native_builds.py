"""ncnn as `runner/build.sh` built it, and what is built on it; tests skip, with the command, where it was not built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from yolodeploy_ncnn.runner import SOURCES, Architecture, library


def require(*tools: str, package: str) -> None:
    """Skip if a tool is missing."""
    if missing := [tool for tool in tools if not shutil.which(tool)]:
        pytest.skip(f"{', '.join(missing)} not found. Run: apt-get install {package}")


def ncnn_library(architecture: Architecture) -> Path:
    """The folder of the built ncnn."""
    compiler = {"native": "c++", "arm64": "aarch64-linux-gnu-g++", "android": "cmake"}
    package = {"native": "g++", "arm64": "g++-aarch64-linux-gnu", "android": ""}[architecture]
    require("cmake", "make", compiler[architecture], package=f"cmake make {package}")
    built = library(architecture) / "layers.txt"  # written last, and another one is built again
    if not built.is_file() or built.read_bytes() != (SOURCES / "layers.txt").read_bytes():
        command = f"{SOURCES / 'build.sh'} --arch {architecture}"
        pytest.skip(f"ncnn was not built. Run: {command} (minutes, once)")
    return built.parent


def runner(architecture: Architecture) -> Path:
    """The runner, built from the sources as they are."""
    folder = ncnn_library(architecture)
    command = [SOURCES / "build.sh", "--arch", architecture, "--cache", folder.parent]
    environment = {**os.environ, "PYTHON": sys.executable}
    return Path(run([*map(str, command)], environment).splitlines()[-1])


def build(source: Path, work: Path, target: str, **options: str | Path) -> Path:
    """A program, built by CMake without optimization; returns its path."""
    require("cmake", "make", "c++", package="cmake make g++")
    given = [f"-D{name}={value}" for name, value in options.items()]
    run(["cmake", "-S", str(source), "-B", str(work), "-DCMAKE_BUILD_TYPE=None", *given])
    run(["cmake", "--build", str(work)])
    return work / target


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints; fails with all that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
