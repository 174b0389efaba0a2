"""Hosts of the kind qemu: what is missing is named, and an Arm build gives what this machine gives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_worker_host import artifact  # noqa: F401 - a fixture

from yolodeploy.backend import Artifact, Target, load_registry
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import LOCAL, WorkerHost, qemu

ROOT = Path(os.environ.get("YOLODEPLOY_ARM64", "~/.cache/yolodeploy-arm64")).expanduser()
missing = [name for name in ("qemu-aarch64-static",) if not shutil.which(name)]
needs_root = pytest.mark.skipif(
    bool(missing) or not (ROOT / "site/ncnn").is_dir(),
    reason=f"no arm64 Python below {ROOT}. Run: bench/arm64_root.sh {ROOT}",
)
needs_qemu = pytest.mark.skipif(
    bool(missing), reason="not installed. Run: apt-get install qemu-user-static"
)


def _host(root: Path, folder: Path, cpu: str = "cortex-a76", qemu_: str = "") -> WorkerHost:
    given = {"kind": "qemu", "root": str(root), "cpu": cpu, "folder": str(folder), "qemu": qemu_}
    return qemu.make("arm64", qemu.Settings.model_validate(given))


@pytest.fixture(params=["cortex-a72", "cortex-a76"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerHost]:
    made = _host(ROOT, tmp_path / "there", str(request.param))
    yield made
    made.close()


def _opened(host: WorkerHost, artifact: Artifact) -> None:  # noqa: F811
    backend = load_registry().backends["ncnn"]
    host.open(backend, artifact, Target(load_registry().devices()["android"]), 1)


@needs_root
def test_an_arm_build_gives_the_same_figures(artifact: Artifact, host: WorkerHost) -> None:  # noqa: F811
    backend, target = load_registry().backends["ncnn"], Target(load_registry().devices()["android"])
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8) / np.float32(255)
    here = LOCAL.open(backend, artifact, target, 1)
    there = host.open(backend, artifact, target, 1)
    machine = host.hardware(backend)
    assert (machine.arch, machine.emulated) == ("aarch64", True)
    assert there.runtime.device == machine.cpu
    assert not there.runtime.timing
    difference = np.abs(np.asarray(there(images)) - np.asarray(here(images))).max()
    if machine.cpu == "cortex-a72":
        assert difference == 0
    else:  # the only one with fp16
        assert 0 < difference < 1e-3


@needs_qemu
def test_a_folder_without_python_is_named_with_the_remedy(
    artifact: Artifact,  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(
        HostProblem, match=r"^host `arm64`: there is no Python below /.*Run: bench/"
    ):
        _opened(_host(tmp_path / "none", tmp_path), artifact)


@needs_root
def test_a_processor_that_qemu_lacks_is_named(artifact: Artifact, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(HostProblem, match=r"^host `arm64`: QEMU knows no processor `cortex-a99`"):
        _opened(_host(ROOT, tmp_path, "cortex-a99"), artifact)


def test_a_program_that_is_missing_is_named(artifact: Artifact, tmp_path: Path) -> None:  # noqa: F811
    python = tmp_path / "usr/bin/python3.11"
    python.parent.mkdir(parents=True)
    python.touch()
    with pytest.raises(HostProblem, match=r"^host `arm64`: /nowhere/qemu cannot be started"):
        _opened(_host(tmp_path, tmp_path, qemu_="/nowhere/qemu"), artifact)
