"""Whatever fails between adb and a device is one sentence and a remedy; a cut cable is never taken for a result."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from yolodeploy.backend import (
    Artifact,
    Device,
    Interface,
    NativeJob,
    NativeResults,
    NativeWork,
    Remote,
    Target,
    Tensor,
    Worker,
)
from yolodeploy.cli import main as cli
from yolodeploy.errors import HostProblem, PlanRefused
from yolodeploy.hosts import Timed, adb
from yolodeploy.hosts.adb import client
from yolodeploy.hosts.adb.phone import climate, facts
from yolodeploy.hosts.adb.program import machine_of
from yolodeploy.report.report import climate_words
from yolodeploy.worker.turns import Burst

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4), np.uint8) / np.float32(255)
TARGET = Target(Device("any", "Any device", "linux"))
FAKE = str(Path(__file__).with_name("fake_adb.sh"))
CP = Path(shutil.which("cp") or "/bin/cp").resolve()
ARTIFACT = Artifact("any", Path(), "")


def _read(work: NativeWork, data: bytes) -> NativeResults:
    if data.startswith(b"fail "):
        raise ValueError(data[5:].decode())
    size = np.dtype(work.pixels).itemsize * int(np.prod(work.shape)) * work.images
    if len(data) != size:
        raise ValueError(f"the results have {len(data)} bytes: they were cut off")
    bursts = [[Burst([2.0, 2.1], [2.0])] * work.rounds for _ in work.artifacts]
    values = np.frombuffer(data, work.pixels).reshape(work.images, *work.shape)
    return NativeResults(
        "7", {}, {"output": values.astype(np.float32)}, bursts, peak_memory_mb=5, waited=0.01
    )


def _job(work: NativeWork) -> NativeJob:
    """A runner that gives the images back: cp."""
    arguments = ("images", "results")
    files = {
        "more": b"x",
        "itself": Path(__file__),
        "full": b"fail cannot write results; is the disk full?",
        "pinned": b"fail cannot run on the cores 7: this process may use 0 1",
    }
    return NativeJob(arguments, files, "images", "results", lambda data: _read(work, data))


BACKEND: Any = SimpleNamespace(
    NAME="any",
    WORKER=Worker("any", requires=(), pinned=()),
    remote=lambda _artifact, _target: Remote(
        ("output",), lambda found: found["output"], shapes=lambda: [(3, 4, 4)]
    ),
    find_native=lambda _machine: CP,
    native_job=_job,
    describe=lambda _: Interface(
        "", (Tensor("images", (1, 3, 4, 4), "float32", ""),), (), 1.0, "", {}
    ),
)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "device"
    folder.mkdir()
    monkeypatch.setenv("FAKE_ADB_COUNT", str(tmp_path / "count"))
    return folder


def _host(there: Path, **settings: Any) -> adb.AdbHost:
    given = {"kind": "adb", "adb": FAKE, "folder": str(there), **settings}
    return adb.make("phone", adb.Settings.model_validate(given))


def test_images_go_there_once_and_results_come_back(there: Path) -> None:
    predictor = _host(there).open(BACKEND, ARTIFACT, TARGET, 1)
    np.testing.assert_array_equal(np.asarray(predictor(IMAGES)), np.rint(IMAGES * 255))
    kept = {file.name: file.stat().st_mtime_ns for file in (there / "kept").iterdir()}
    assert len(kept) == 6  # the program, a file of the job, an empty image and three others
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (there / "kept").iterdir()]
    assert sorted(digests) == sorted(kept)
    predictor(IMAGES)
    assert {file.name: file.stat().st_mtime_ns for file in (there / "kept").iterdir()} == kept
    assert [file.name for file in there.iterdir()] == ["kept"]
    assert predictor.runtime.host == "phone"
    assert "not yet against a phone" in predictor.runtime.note


def test_what_was_damaged_there_is_sent_again(there: Path) -> None:
    _host(there).open(BACKEND, ARTIFACT, TARGET, 1)(IMAGES)
    for file in (there / "kept").iterdir():
        file.write_bytes(b"half")
    found = _host(there).open(BACKEND, ARTIFACT, TARGET, 1)(IMAGES)
    np.testing.assert_array_equal(np.asarray(found), np.rint(IMAGES * 255))


SAID = {
    "none": "adb finds no device. Connect one",
    "unauthorized": "the device does not allow this computer yet. Unlock it, confirm",
    "offline": "the device is offline. Unplug",
    "several": "adb finds several devices. Name one as `serial`",
    "other": "adb finds no device `X123`. Connect it, or correct `serial`",
    "forbidden": "this user may not use the USB device. Install",
    "server": "the server of adb does not start. Run: adb kill-server",
    "silent": "it did not answer within 1 seconds. Unlock it",
    "floods": "it sent more than 1048576 bytes",
    "full": "its storage is full. Free some space there",
    "code": "the device was lost while it worked",
    "floods results": "it sent more than 1048768 bytes",
}


@pytest.mark.parametrize("how", SAID)
def test_failures_of_adb(how: str, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ADB", how)
    if how == "silent":
        monkeypatch.setattr(client, "_SECONDS", 1.0)
        monkeypatch.setattr(client.Adb.run, "__defaults__", (1.0,))
        monkeypatch.setattr(client.Adb.shell, "__defaults__", (1.0,))
    with pytest.raises(HostProblem) as caught:
        _host(there, serial="X123").open(BACKEND, ARTIFACT, TARGET, 1)
    assert str(caught.value).startswith(f"host `phone`: {SAID[how]}")
    assert len(str(caught.value).split()) < 45


@pytest.mark.parametrize("program", ["/nowhere/adb", "/etc/passwd"])
def test_a_client_that_is_no_program(program: str, there: Path) -> None:
    said = f"host `phone`: {program} cannot be started. Correct `adb` in hosts.toml."
    with pytest.raises(HostProblem, match=f"^{said}$"):
        _host(there, adb=program).hardware(BACKEND)


def test_a_cable_that_comes_off_at_any_command_is_no_result(
    there: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """adb exits with 0 then: every command is tried, and only the last, which tidies up, may get lost."""
    endings = []
    for number in range(1, 40):
        monkeypatch.setenv("FAKE_ADB", f"cut {number}")
        (tmp_path / "count").unlink(missing_ok=True)
        shutil.rmtree(there)
        there.mkdir()
        try:
            _host(there).open(BACKEND, ARTIFACT, TARGET, 1)
        except HostProblem as error:
            endings.append(str(error))
            continue
        endings.append("")
        if (tmp_path / "count").stat().st_size < number:
            break
    assert endings[-1] == ""
    assert sum(map(bool, endings)) >= 6
    said = {ending for ending in endings if ending}
    assert all("the device was lost" in s or "were cut off" in s for s in said), said


@pytest.mark.parametrize(
    ("serial", "allowed"),
    [
        ("0123456789ABCDEF", True),
        ("adb-1A2B3C4D-x5Yz (2)._adb-tls-connect._tcp", True),  # of two with one name in a network
        ("[fe80::1%wlan0]:5555", True),
        ("-e", False),
        (" x", False),
        ("a\nb", False),
    ],
)
def test_serials(serial: str, allowed: bool) -> None:
    given = {"kind": "adb", "serial": serial}
    with nullcontext() if allowed else pytest.raises(ValidationError):
        assert adb.Settings.model_validate(given).serial == serial


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        ("/nowhere/runner", "/nowhere/runner is not a program. Correct `runner` in hosts.toml"),
        (__file__, "is not a program"),
    ],
)
def test_a_runner_that_is_none(runner: str, said: str, there: Path) -> None:
    with pytest.raises(HostProblem, match=said):
        _host(there, runner=runner).open(BACKEND, ARTIFACT, TARGET, 1)


def test_a_runner_for_another_machine(there: Path, tmp_path: Path) -> None:
    other = 183 if platform.machine() == "x86_64" else 62
    head = bytearray(CP.read_bytes())
    head[18:20] = other.to_bytes(2, "little")
    (tmp_path / "runner").write_bytes(head)
    assert machine_of(CP) == platform.machine()
    with pytest.raises(HostProblem, match=r"runner is a program for \w+, and the device is \w+"):
        _host(there, runner=str(tmp_path / "runner")).open(BACKEND, ARTIFACT, TARGET, 1)


def test_a_program_that_fails_or_is_killed(there: Path) -> None:
    for arguments, said in [
        (("images", "/dev/full"), "its storage is full. Free some space there, or remove"),
        (
            ("images", "/nowhere/results"),
            "its program wrote no results .*No such file or directory",
        ),
        (("more", "results"), "the results have 1 bytes: they were cut off"),
        (("full", "results"), "its storage is full. Free some space there"),
        (("pinned", "results"), "may use 0 1. Name others as `cores` in hosts.toml.$"),
    ]:
        plugin = SimpleNamespace(**vars(BACKEND))
        plugin.native_job = lambda work, a=arguments: replace(_job(work), arguments=a)
        with pytest.raises(HostProblem, match=said):
            _host(there).open(plugin, ARTIFACT, TARGET, 1)


def test_a_version_is_shown_without_what_controls_a_terminal(there: Path) -> None:
    plugin = SimpleNamespace(**vars(BACKEND))
    plugin.WORKER = Worker("any", requires=("numpy",), pinned=("numpy",))
    plugin.native_job = lambda work: replace(
        _job(work), read=lambda _: NativeResults("\x1b[2J" * 999)
    )
    with pytest.raises(HostProblem, match="its program has numpy ") as caught:
        _host(there).open(plugin, ARTIFACT, TARGET, 1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_nothing_outside_of_the_folder_is_tidied(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folder cannot be made, the shell of a device stays where it began."""
    monkeypatch.chdir(tmp_path)
    for name in ("job-of-mine", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name / "file", (0, 0))
        os.utime(tmp_path / name, (0, 0))
    (there / "file").touch()
    with pytest.raises(HostProblem, match=r"host `phone`: mkdir.*Not a directory"):
        _host(there / "file").hardware(BACKEND)
    assert (tmp_path / "job-of-mine/file").is_file()
    assert (tmp_path / "kept/file").is_file()


def test_what_is_used_is_kept_and_the_rest_goes_after_two_weeks(there: Path) -> None:
    _host(there).open(BACKEND, ARTIFACT, TARGET, 1)(IMAGES)
    week = 7 * 24 * 3600
    (there / "kept/other").touch()
    for weeks, left in [(1, True), (2, False)]:
        for file in (there / "kept").iterdir():
            os.utime(file, (time.time() - weeks * week - 60,) * 2)
        used = {file.name for file in (there / "kept").iterdir()} - {"other"}
        found = _host(there)
        assert found.hardware(BACKEND)
        assert (there / "kept/other").exists() == left
        assert all((there / "kept" / name).exists() == left for name in used)
        found.open(BACKEND, ARTIFACT, TARGET, 1)(IMAGES)
        assert all((there / "kept" / n).stat().st_mtime > time.time() - week for n in used)


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ("core." + "9" * 5000 + "=1", {}),
        ("core.1=" + "9" * 5000, {1: 0}),
        ("core.5000=1\ncore.\u0663=5\ncore.2=7", {2: 7}),
        ("machine=\x1b[2J\nro.product.model=" + "x" * 10**6, {}),
    ],
)
def test_a_device_that_says_nonsense(said: str, cores: Mapping[int, int]) -> None:
    device: Any = SimpleNamespace(shell=lambda _: said)
    found = facts(device)
    assert found.cores == cores
    assert len(found.hardware.board) < 300
    assert found.machine.isprintable()
    assert climate(device) == {}


def test_plugins_without_a_program_are_refused(there: Path) -> None:
    plugin: Any = SimpleNamespace(NAME="other")
    with pytest.raises(PlanRefused, match="artifacts of other cannot run on the host `phone`"):
        _host(there).open(plugin, ARTIFACT, TARGET, 1)


PHONE = {
    "getprop": 'case $1 in ro.product.model) echo "Pixel 8";; ro.soc.model) echo "Tensor G3";; '
    "ro.build.version.release) echo 16;; ro.product.device) echo shiba;; esac",
    "dumpsys": 'case $1 in battery) printf "  status: 3\\n  level: 85\\n  temperature: 312\\n";; '
    'thermalservice) echo "Thermal Status: 1";; esac',
}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Tools of Android, as far as they are asked."""
    (tmp_path / "tools").mkdir()
    for name, script in PHONE.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    monkeypatch.setenv("FAKE_TOOLS", str(tmp_path / "tools"))
    return PHONE


def test_a_phone_says_what_it_is_and_how_warm(there: Path, tools: Mapping[str, str]) -> None:
    device = client.Adb("phone", FAKE, "", str(there))
    found = facts(device).hardware
    assert (found.system, found.release, found.board) == ("Android", "16", "Pixel 8")
    assert (found.cpu, found.arch) == ("Tensor G3", platform.machine())
    assert found.names == ("Tensor G3", "shiba", "Pixel 8")
    warm = climate(device)
    assert (warm["thermal_status"], warm["battery_percent"], warm["battery"]) == (
        1,
        85,
        "discharging",
    )
    assert warm["battery_celsius"] == 31.2


def test_the_fastest_cores_are_chosen() -> None:
    clocks = {0: 1_700_000, 1: 1_700_000, 4: 2_370_000, 5: 2_370_000, 8: 2_914_000}
    phone = adb.host.Facts(None, "aarch64", "arm64-v8a", clocks)  # type: ignore[arg-type, attr-defined]
    assert phone.fastest(1) == (8,)
    assert phone.fastest(3) == (4, 5, 8)
    assert phone.fastest(9) == ()


def test_figures_of_a_device(
    there: Path, tmp_path: Path, tools: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "tensor.npy", IMAGES[:1])
    timed = Timed(BACKEND, TARGET, ARTIFACT, {"float": ARTIFACT}, str(tmp_path / "tensor.npy"), 1)
    found = _host(there, cores=[0]).time(timed)
    assert (found.median_ms, found.peak_memory_mb, found.threads) == (2.0, 5, 1)
    assert found.cpu == "Tensor G3 (core 0)"
    assert found.others_ms == {"float": 2.0}
    assert {name: set(runs) for name, runs in found.samples_ms.items()} == {
        "": {2.0},
        "float": {2.0},
    }
    assert found.climate["before"]["thermal_status"] == 1
    monkeypatch.setattr(adb.host.Facts, "fastest", lambda *_: ())  # type: ignore[attr-defined]
    found = _host(there).time(replace(timed, brief=True))
    assert found.cpu == "Tensor G3 (any core: their clocks are not known)"


def test_a_phone_is_listed_with_what_runs_there(there: Path, tools: Mapping[str, str]) -> None:
    pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")
    found = _host(there, runner=str(CP)).survey(["ncnn", "openvino"])
    about = found.hardware
    assert (about.called, about.system, about.release) == ("Pixel 8", "Android", "16")
    assert found.python == ""
    assert found.distributions == {"ncnn": version("ncnn"), "openvino": None}


def test_check_names_the_program_to_build_and_what_cannot_run_there(
    there: Path,
    tools: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")
    hosts = f'[phone]\nkind = "adb"\nadb = "{FAKE}"\nfolder = "{there}"\n'
    (there.parent / "hosts.toml").write_text(hosts)
    monkeypatch.setattr("platformdirs.user_config_dir", lambda _: str(there.parent))
    monkeypatch.setenv("YOLODEPLOY_NCNN", str(there / "nothing"))
    assert cli.main(["hosts", "check", "phone"]) == HostProblem.exit_code
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("NO  ncnn         its program is not built")
    assert "build.sh --arch " in lines[at + 1]
    assert sum("build.sh" in line for line in lines) == 1
    assert "NO  openvino     its artifacts need a Python there" in lines


def test_a_climate_in_words() -> None:
    after = {"celsius": 44.0, "thermal_status": 1, "battery_percent": 85, "battery": "discharging"}
    climate = {"before": {"celsius": 38.5}, "after": {**after, "battery_celsius": 31.2}}
    assert climate_words({"climate": climate}) == (
        "38.5 °C before, 44.0 °C after; thermal status 1; battery 85 % (discharging, 31.2 °C)"
    )
