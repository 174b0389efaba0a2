"""Artifacts run over ssh as they run here, and whatever is wrong with a host is said in a sentence with its remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ssh_server import SshServer, ssh_server

from yolodeploy.backend import Artifact, Target, load_registry
from yolodeploy.hosts import LOCAL, WorkerHost
from yolodeploy.hosts.ssh import Settings, make

_PARAM = """\
7767517
3 3
Input            in0    0 1 in0
Pooling          pool   1 1 in0 1 0=1 1=2 2=2
Flatten          flat   1 1 1 out0
"""
_IMAGES = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8).astype(np.uint8) / np.float32(255)  # fmt: skip
NCNN = load_registry().backends["ncnn"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """The smallest network: an average over two by two pixels."""
    pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.ncnn.param").write_text(_PARAM)
    (folder / "model.ncnn.bin").write_bytes(b"")
    return Artifact("ncnn", folder, "")


@pytest.fixture
def connect(server: SshServer) -> Iterator[Callable[..., WorkerHost]]:
    """Make hosts with some settings; they are closed at the end."""
    made: list[WorkerHost] = []

    def host(**settings: object) -> WorkerHost:
        usual = {
            "kind": "ssh",
            "address": "desk",
            "config": str(server.config),
            "python": sys.executable,
        }
        made.append(make("pi", Settings.model_validate({**usual, **settings})))
        return made[-1]

    yield host
    for each in made:
        each.close()
    server.write_config()
    server.trust("host")


def _target() -> Target:
    return Target(load_registry().devices()["android"])


def test_the_same_bytes_come_back_and_nothing_else_is_written(
    artifact: Artifact, server: SshServer, connect: Callable[..., WorkerHost]
) -> None:
    host = connect()
    here = LOCAL.open(NCNN, artifact, _target(), 1)
    there = host.open(NCNN, artifact, _target(), 1)
    np.testing.assert_array_equal(there(_IMAGES), here(_IMAGES))
    assert there.runtime.host == "pi"
    assert there.runtime.version == here.runtime.version
    assert [path.name for path in server.home.iterdir()] == [".cache"]
    assert [path.name for path in (server.home / ".cache").iterdir()] == ["yolodeploy-worker"]
