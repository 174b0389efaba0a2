"""The example backend, installed as a third party would, passes the contract suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "yolodeploy-minimal"


def run(arguments: list[str], path: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A `PYTHONPATH` on which the example is installed; the environment stays as it is."""
    for package in ("onnx", "onnxruntime", "hatchling"):
        pytest.importorskip(package, reason=f"{package} not installed. Run: pip install '.[dev]'")
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(["-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)], "")
    return os.pathsep.join([str(target), *(entry for entry in sys.path if entry)])


@pytest.mark.slow
def test_example_passes_the_contract_suite(path: str):
    suite = ["tests/contract/test_contract.py", "-k", "minimal", "-p", "no:cacheprovider"]
    report = run(["-m", "pytest", "-q", *suite], path)
    assert " passed" in report
    assert "skipped" not in report


@pytest.mark.slow
def test_command_line_lists_the_example(path: str):
    pytest.importorskip("yolodeploy.cli", reason="the command line is not part of this tree")
    assert "minimal" in run(["-m", "yolodeploy", "backends"], path)
