"""A worker in another process, which needs nothing of yolodeploy but what travels, gives the results of this one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from yolodeploy.backend import Artifact, Target, load_registry
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import LOCAL, ProcessTransport, WorkerHost

pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")

_PARAM = """\
7767517
3 3
Input            in0    0 1 in0
Pooling          pool   1 1 in0 1 0=1 1=2 2=2
Flatten          flat   1 1 1 out0
"""


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """The smallest network: an average over two by two pixels."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.ncnn.param").write_text(_PARAM)
    (folder / "model.ncnn.bin").write_bytes(b"")
    return Artifact("ncnn", folder, "")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[WorkerHost]:
    made = WorkerHost(ProcessTransport("other", [sys.executable], str(tmp_path / "there")))
    yield made
    made.close()


def _target() -> Target:
    return Target(load_registry().devices()["android"])


def test_the_same_bytes_come_back(artifact: Artifact, host: WorkerHost, tmp_path: Path) -> None:
    backend = load_registry().backends["ncnn"]
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8) / np.float32(255)
    here = LOCAL.open(backend, artifact, _target(), 1)
    there = host.open(backend, artifact, _target(), 1)
    np.testing.assert_array_equal(there(images), here(images))
    np.testing.assert_array_equal(there(images / 3), here(images / 3))  # no 8-bit values
    assert there.runtime.host == "other"
    assert there.runtime.version == here.runtime.version
    kept = list((tmp_path / "there" / "kept").iterdir())
    there(images)
    assert list((tmp_path / "there" / "kept").iterdir()) == kept


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML exists for this system")
def test_nothing_is_to_be_installed_that_does_not_exist_for_the_system(host: WorkerHost) -> None:
    with pytest.raises(
        HostProblem, match=r"`other`: .* for macOS only, and this is Linux"
    ) as caught:
        host.hardware(load_registry().backends["coreml"])
    assert "pip install" not in str(caught.value)


def test_a_worker_imports_nothing_from_the_folder_in_which_it_starts(
    artifact: Artifact, host: WorkerHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hashlib", "base64", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger ran')\n")
    monkeypatch.chdir(tmp_path)
    host.open(load_registry().backends["ncnn"], artifact, _target(), 1)
