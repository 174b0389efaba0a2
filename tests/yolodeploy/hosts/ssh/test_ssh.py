"""Artifacts run over ssh as they run here, and whatever is wrong with a host is said in a sentence with its remedy."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ssh_server import SshServer, ssh_server

from yolodeploy.backend import Artifact, Target, load_registry
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import LOCAL, WorkerHost
from yolodeploy.hosts.ssh import Settings, connection, make
from yolodeploy.hosts.ssh.failures import of_connection

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
            "folder": str(server.home / "worker"),
        }
        made.append(make("pi", Settings.model_validate({**usual, **settings})))
        return made[-1]

    yield host
    for each in made:
        each.close()
    server.write_config()
    server.trust("host")
    server.let_in("user")


def _target() -> Target:
    return Target(load_registry().devices()["android"])


def test_the_same_bytes_come_back_and_nothing_else_is_written(
    artifact: Artifact, server: SshServer, connect: Callable[..., WorkerHost]
) -> None:
    host = connect()
    here = LOCAL.open(NCNN, artifact, _target(), 1)
    there = host.open(NCNN, artifact, _target(), 1)
    np.testing.assert_array_equal(there(_IMAGES), here(_IMAGES))
    (code,) = (server.home / "worker" / "code").iterdir()
    os.utime(code, (1, 1))
    connect().open(NCNN, artifact, _target(), 1)  # which removes old code, but not its own
    assert code.stat().st_mtime > 1
    assert there.runtime.host == "pi"
    assert there.runtime.version == here.runtime.version
    assert {path.name for path in server.home.iterdir()} <= {"worker", ".cache"}
    assert not list(server.home.glob(".cache/*"))


def test_files_that_vanish_or_are_damaged_are_sent_again(
    artifact: Artifact, server: SshServer, connect: Callable[..., WorkerHost]
) -> None:
    there = connect().open(NCNN, artifact, _target(), 1)
    before, kept = there(_IMAGES), server.home / "worker" / "kept"
    first, second, *_ = (path for path in kept.iterdir() if path.stat().st_size == _IMAGES[0].size)
    first.unlink()
    second.write_bytes(b"damaged")
    np.testing.assert_array_equal(there(_IMAGES), before)
    assert first.stat().st_size == second.stat().st_size == _IMAGES[0].size


def test_a_worker_is_used_again_when_nobody_uses_its_model(
    artifact: Artifact, server: SshServer, connect: Callable[..., WorkerHost]
) -> None:
    host = connect()
    for _ in range(3):
        host.open(NCNN, artifact, _target(), 1)(_IMAGES)
    assert len(server.workers()) == 1


def _wrapper(server: SshServer, name: str, script: str) -> dict[str, str]:
    """Settings with a script in place of Python."""
    file = server.folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return {"python": str(file)}


def _unknown_key(server: SshServer) -> dict[str, str]:
    server.known.write_text("")
    return {}


def _changed_key(server: SshServer) -> dict[str, str]:
    server.trust("other")
    return {}


def _refused_login(server: SshServer) -> dict[str, str]:
    server.write_config(IdentityFile=server.folder / "other")
    return {}


def _open_key(server: SshServer) -> dict[str, str]:
    copy = server.folder / "open"
    copy.write_text((server.folder / "user").read_text())
    copy.chmod(0o644)
    server.write_config(IdentityFile=copy)
    return {}


def _no_commands(server: SshServer) -> dict[str, str]:
    server.let_in("user", command="exit 1")
    return {}


def _closed_port(server: SshServer) -> dict[str, str]:
    server.write_config(Port=1)
    return {}


def _bad_name(server: SshServer) -> dict[str, str]:
    server.write_config(HostName="nowhere.invalid")
    return {}


def _bad_config(server: SshServer) -> dict[str, str]:
    server.write_config(Bogus="yes")
    return {}


def _no_python(server: SshServer) -> dict[str, str]:
    return {"python": str(server.home / "python")}


def _no_worker(server: SshServer) -> dict[str, str]:
    return _wrapper(server, "nothing", "exit 1")


def _old_python(server: SshServer) -> dict[str, str]:
    older = "import sys; sys.version_info = (3, 8, 1)"
    script = f'shift; code="$1"; shift; exec {sys.executable} -c "{older}; $code" "$@"'
    return _wrapper(server, "old", script)


def _no_numpy(server: SshServer) -> dict[str, str]:
    return _wrapper(server, "bare", f'exec {sys.executable} -S "$@"')


def _other_wheel(server: SshServer) -> dict[str, str]:
    about = server.folder / "wheels" / "ncnn-0.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: ncnn\nVersion: 0.1\n")
    folder = server.folder / "wheels"
    return _wrapper(server, "other", f'PYTHONPATH={folder} exec {sys.executable} "$@"')


def _full_disk(server: SshServer) -> dict[str, str]:
    full = _wrapper(server, "full", f'ulimit -f 8; exec {sys.executable} "$@"')
    return {**full, "folder": str(server.home / "full")}


def _no_folder(server: SshServer) -> dict[str, str]:
    (server.home / "file").write_text("")
    return {"folder": str(server.home / "file" / "worker")}


_FAILURES = {
    _unknown_key: r"its host key is not known here. Run: ssh -F \S+ desk once, compare the finger",
    _changed_key: r"it has another host key than the one that you know, .* run: ssh-keygen .*-R \S+, then: ssh",
    _refused_login: r"it refuses your key. Run: ssh-copy-id -F \S+ desk \(",
    _open_key: r"ssh refuses a key file that others can read: Permissions 0644 for '\S+/open' are too",
    _no_commands: r"its account runs no commands: the login shell ended with exit code 1. Give it a shell",
    _closed_port: r"nothing listens on its ssh port. Start its ssh server",
    _bad_name: r"there is no machine named desk. Correct `address` in hosts.toml",
    _bad_config: r"ssh cannot use its configuration: .*bogus.*\. Correct that file",
    _no_python: r"its Python is not there. Run: ssh -F \S+ desk sudo apt-get install python3",
    _no_worker: r"its worker ended before it began, and said nothing. Correct the Python that hosts.toml",
    _old_python: r"yolodeploy needs Python 3.9 or newer there, and it has 3.8. Install a newer one",
    _no_numpy: r"it has other tools than this machine \(ncnn is missing, numpy is missing\). Run: ssh .* numpy'",
    _other_wheel: r"it has other tools than this machine \(ncnn is 0.1, not [0-9.]+\). Run: ssh ",
    _full_disk: r"its disk is full. Free some space there, or name another `folder`",
    _no_folder: r"the folder of the worker cannot be written. Correct its permissions",
}


@pytest.mark.parametrize("failure", _FAILURES, ids=lambda failure: failure.__name__.strip("_"))
def test_what_is_wrong_is_said_with_its_remedy(
    failure: Callable[[SshServer], dict[str, str]],
    artifact: Artifact,
    server: SshServer,
    connect: Callable[..., WorkerHost],
) -> None:
    settings = failure(server)
    with pytest.raises(HostProblem) as error:
        connect(**settings).open(NCNN, artifact, _target(), 1)
    said = str(error.value)
    assert re.fullmatch(f"host `pi`: {_FAILURES[failure]}.*", said), said
    assert error.value.exit_code == 13


def test_a_server_puts_no_command_and_no_control_characters_into_a_message() -> None:
    """What it prints before it refuses a login stands among what ssh says."""
    banner = "REMOTE HOST IDENTIFICATION HAS CHANGED\n  ssh-keygen -f x -R y; rm -rf ~\n"
    said = of_connection(banner, ["pi@box"], started=False)
    assert "run: ssh-keygen -R box, then: ssh pi@box" in said
    said = of_connection("Connection closed \x1b[2J\u202e by box\n", ["box"], started=False)
    assert r"Connection closed \x1b[2J\u202e by box" in said
    assert of_connection("\x1b]0;evil\x07", ["box"], started=False).isprintable()


def _cut(server: SshServer) -> None:
    server.cut()


def _killed(server: SshServer) -> None:
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)


def _crashed(server: SshServer) -> None:
    for worker in server.workers():
        os.kill(worker, signal.SIGILL)


def _hung(server: SshServer) -> None:
    for child in server.children():
        os.kill(child, signal.SIGSTOP)


_ENDS = {
    _cut: "the connection was cut. What was finished is kept: run again.",
    _killed: "its worker was killed, perhaps because memory ran out. What was finished is kept: run ",
    _crashed: "its runtime crashed there: Illegal instruction. Its wheel may be for another processor: try another",
    _hung: "it stopped answering: it hangs, or the network is gone. What was finished is kept: run ",
}


@pytest.mark.parametrize("end", _ENDS, ids=lambda end: end.__name__.strip("_"))
def test_an_end_in_the_middle_is_told_and_the_next_run_works(
    end: Callable[[SshServer], None],
    artifact: Artifact,
    server: SshServer,
    connect: Callable[..., WorkerHost],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection._OPTIONS, "ServerAliveInterval", "1")
    there = connect().open(NCNN, artifact, _target(), 1)
    before = there(_IMAGES)
    end(server)
    with pytest.raises(HostProblem) as error:
        there(_IMAGES)
    assert str(error.value).startswith(f"host `pi`: {_ENDS[end]}")
    np.testing.assert_array_equal(connect().open(NCNN, artifact, _target(), 1)(_IMAGES), before)
