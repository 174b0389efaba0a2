"""A real adb daemon on this machine, in a network of its own, and the runner of ncnn: the bytes of the wheel come back."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolodeploy.backend import Artifact, Target, load_registry
from yolodeploy.errors import EnvironmentProblem, HostProblem
from yolodeploy.hosts import LOCAL, Timed, adb

ROOT = Path(os.environ.get("YOLODEPLOY_ADBD", "~/.cache/yolodeploy-adbd")).expanduser()
LIBRARIES = ROOT / f"usr/lib/{platform.machine()}-linux-gnu"
ADBD = ROOT / "usr/lib/android-sdk/platform-tools/adbd"
PARAM = """\
7767517
3 3
Input            in0    0 1 in0 0=8 1=8 2=3
Pooling          pool   1 1 in0 1 0=1 1=2 2=2
Flatten          flat   1 1 1 out0
"""
# The network of a namespace begins with its loopback down; `ip link set lo up` without iproute2.
NETWORK = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1 | 64))
os.execv(sys.argv[1], sys.argv[1:])
"""


def _missing() -> str:
    """Why there is nothing to test with, with the command that mends it."""
    if not ADBD.is_file():
        return f"no adb daemon below {ROOT}. Run: bench/adbd.sh {ROOT}"
    if not shutil.which("adb"):
        return "adb is not installed. Run: apt-get install adb"
    if os.geteuid() or not shutil.which("unshare") or not ctypes.util.find_library("c"):
        return "a network of its own needs root and unshare (apt-get install util-linux)"
    backend: Any = load_registry().backends["ncnn"]
    if problem := backend.problem():
        return str(problem)
    try:
        backend.find_native(platform.machine())
    except EnvironmentProblem as error:
        return str(error)
    return ""


MISSING = _missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An adb client in the network of a daemon, as a script."""
    work = tmp_path_factory.mktemp("adb")
    loader = str(LIBRARIES / "ld-linux-x86-64.so.2")
    path = f"{LIBRARIES}/android:{LIBRARIES}"
    command = [loader, "--library-path", path, str(ADBD)]
    daemon = subprocess.Popen(
        ["unshare", "-n", shutil.which("python3") or "python3", "-c", NETWORK, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "ADBD_PORT": "5555"},
    )
    assert daemon.stderr is not None
    for line in daemon.stderr:
        if b"adbd started" in line:
            break
    script = work / "adb"
    script.write_text(
        f"#!/bin/sh\nexport HOME={work} ANDROID_ADB_SERVER_PORT=5138\n"
        f'exec nsenter -n -t {daemon.pid} adb "$@"\n'
    )
    script.chmod(0o755)
    _run(script, "start-server")
    _run(script, "connect", "127.0.0.1:5555")
    try:
        yield script
    finally:
        _run(script, "kill-server")
        daemon.kill()
        daemon.stderr.close()
        daemon.wait()


def _run(script: Path, *words: str) -> None:
    null = subprocess.DEVNULL
    subprocess.run([script, *words], stdout=null, stderr=null, check=True)


@pytest.fixture
def host(client: Path, tmp_path: Path) -> adb.AdbHost:
    given = {"kind": "adb", "adb": str(client), "serial": "127.0.0.1:5555"}
    return adb.make("phone", adb.Settings.model_validate({**given, "folder": f"{tmp_path}/there"}))


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.ncnn.param").write_text(PARAM)
    (folder / "model.ncnn.bin").write_bytes(b"")
    (folder / "layers.json").write_text('{"layers": {"pool": "neck"}}')
    return Artifact("ncnn", folder, "")


def test_a_runner_gives_the_bytes_of_the_wheel(
    host: adb.AdbHost, artifact: Artifact, tmp_path: Path
) -> None:
    registry = load_registry()
    backend, target = registry.backends["ncnn"], Target(registry.devices()["arm-linux"])
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8) / np.float32(255)
    here = LOCAL.open(backend, artifact, target, 1)
    there = host.open(backend, artifact, target, 1)
    np.testing.assert_array_equal(np.asarray(there(images)), np.asarray(here(images)))
    np.testing.assert_array_equal(np.asarray(there(images / 3)), np.asarray(here(images / 3)))
    assert there.runtime.version == here.runtime.version
    assert host.hardware(backend).arch == platform.machine()
    np.save(tmp_path / "tensor.npy", images[:1])
    timed = Timed(backend, target, artifact, {"float": artifact}, str(tmp_path / "tensor.npy"), 1)
    found = host.time(timed)
    assert found.ratios["float"].low < 1.5
    assert 0 < found.median_ms < 100
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["kept"]


def test_several_devices_need_a_serial(client: Path, tmp_path: Path) -> None:
    """The client finds the daemon a second time by itself, as an emulator."""
    known = ""
    for _ in range(50):
        known = subprocess.check_output([client, "devices"], text=True)
        if known.count("device\n") > 1:
            break
        time.sleep(0.1)
    given = {"kind": "adb", "adb": str(client), "folder": f"{tmp_path}/there"}
    host = adb.make("phone", adb.Settings.model_validate(given))
    with pytest.raises(HostProblem, match=r"^host `phone`: adb finds several devices. Name one"):
        host.hardware(load_registry().backends["ncnn"])
