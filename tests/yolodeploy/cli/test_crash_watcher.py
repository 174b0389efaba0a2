"""Processes that native code, or the system, ends: what is said, and what is kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import World

import yolodeploy
from yolodeploy.execution import activity

FAULTS = {"segfault": ("Segmentation fault", 11), "abort": ("Aborted", 6)}


@pytest.mark.parametrize(("place", "fault"), [("export", "segfault"), ("infer", "abort")])
def test_a_native_fault_leaves_a_message_and_a_log(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, fault: str
) -> None:
    name, number = FAULTS[fault]
    monkeypatch.setenv("CLAY_FAULT", f"{place}:{fault}")
    result = world.process("deploy", "pot.yaml", "-q")
    assert result.code == 128 + number
    what = {
        "export": r"pot\.yaml:10:5: `export` of kiln",
        "infer": r"pot\.yaml:11:5: running the result of `press` in kiln",
    }[place]
    found = re.fullmatch(
        rf"{what}: native code of a tool crashed \({name}\)\. Finished steps are kept\. "
        r"The trace is in (.+); please report it\.",
        result.error,
    )
    assert found, result.err
    log = Path(found[1]).read_text()
    assert f"Fatal Python error: {name}" in log
    assert 'plugins/clay.py", line' in log
    assert (world.root / "pot.yaml").read_text() in log
    ran = world.log
    monkeypatch.delenv("CLAY_FAULT")
    world.good()
    assert "load" in ran
    assert "load" not in world.log[len(ran) :]


def test_with_json(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "infer:segfault")
    result = world.process("deploy", "pot.yaml", "-q", "--json")
    assert result.json["error"]["exit_code"] == 139
    assert result.json["error"]["kind"] == "native fault"
    assert result.json["error"]["message"] == result.error


def test_a_killed_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:kill")
    result = world.process("deploy", "pot.yaml", "-q")
    assert result.code == 137
    assert result.error == (
        "pot.yaml:11:5: `press` of kiln: the process was killed. Finished steps are kept. If nobody "
        "killed it, the system ran out of memory: use fewer images, a smaller batch or a smaller imgsz."
    )


@pytest.mark.parametrize(("fault", "code"), [("segfault", -11), ("kill", -9)])
def test_a_command_that_works_in_its_own_process_is_watched(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str, code: int
) -> None:
    monkeypatch.setenv("YOLODEPLOY_IN_PROCESS", "1")
    monkeypatch.setenv("CLAY_FAULT", f"press:{fault}")
    result = world.process("deploy", "pot.yaml", "-q", "--json")
    assert result.code == code
    assert result.json["error"] == {
        "kind": "native fault",
        "exit_code": 128 - code,
        "message": result.error,
    }
    assert result.error.startswith("pot.yaml:11:5: `press` of kiln: ")


def test_nothing_is_said_of_a_process_that_ends_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:exit")
    ended = world.process("deploy", "pot.yaml", "-q")
    assert ended.code == 7
    assert ended.error == (
        "pot.yaml:11:5: `press` of kiln ended the process with exit code 3. Report it to the author of the plugin."
    )
    monkeypatch.setenv("CLAY_FAULT", "press:raise")
    assert world.process("deploy", "pot.yaml", "-q").err.count("error: ") == 1
    monkeypatch.setenv("CLAY_FAULT", "press:interrupt")
    assert world.process("deploy", "pot.yaml", "-q").err.count("error: ") == 1
    monkeypatch.delenv("CLAY_FAULT")
    assert world.process("build", "pot.yaml", "-q").err == ""


def test_a_fork_that_lives_on_does_not_hold_the_listener(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:fork")
    start = time.monotonic()
    devnull = subprocess.DEVNULL
    assert world.process("build", "pot.yaml", "-q", stdout=devnull, stderr=devnull).code == 0
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("place", ["press", "infer"])
def test_memory_that_runs_out(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("CLAY_FAULT", f"{place}:memory")
    result = world.deploy("-q")
    assert result.code == 4
    assert "ran out of memory. Close other programs, or use fewer images" in result.error


def test_as_a_library_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_run", None)
    monkeypatch.setattr(activity, "_reader", None)
    with activity.doing("work"):
        assert activity._reader is None


def _said(tmp_path: Path, work: dict[str, str], trace: str = "") -> str:
    """The message about a process that ended while its threads did this work."""
    run = {"command": [], "recipes": [], "cache": str(tmp_path), "json": False}
    done = subprocess.run(
        [sys.executable, "-m", "yolodeploy.cli.crash_watcher", json.dumps(run)],
        input="\0" + json.dumps(work) + "\n" + trace,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_what_a_listener_says_steers_no_terminal(tmp_path: Path) -> None:
    said = _said(tmp_path, {"1": "\x1b[2J"})
    assert said.startswith("error: \\u001b[2J: the process was killed. Finished")


def test_of_several_threads_the_one_that_crashed_is_named(tmp_path: Path) -> None:
    work = {"4096": "running the source model", "8192": "running the artifact"}
    trace = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x{:016x} (most recent call first):\n"
    assert _said(tmp_path, work, trace.format(8192)).startswith(
        "error: running the artifact: native code"
    )
    both = "error: running the source model or running the artifact: the process was killed"
    assert _said(tmp_path, work).startswith(both)


def test_nothing_is_imported_from_where_the_user_stands(world: World) -> None:
    """A stranger's folder may hold modules with the names of ours."""
    for file in ("json.py", "numpy.py", "yolodeploy.py"):
        world.write(file, f"open({str(world.root / 'canary')!r}, 'w')\nraise SystemExit(9)\n")
    script = Path(sys.executable).with_name("yolodeploy")
    command = [str(script)] if script.exists() else [sys.executable, "-P", "-m", "yolodeploy"]
    done = subprocess.run(
        [*command, "deploy", "pot.yaml", "-q"],
        cwd=world.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert not (world.root / "canary").exists()
    report = json.loads((world.bundle / "report.json").read_text())
    assert report["evidence"]["latency_ms"] is not None
    assert yolodeploy.__version__
