"""The child process of the real command line: what it says, what is kept, and that nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import World

from yolodeploy.execution import Run
from yolodeploy.jobs import Job, LocalChild, What, Work
from yolodeploy.jobs.messages import Replay
from yolodeploy.system import Console


def _children(process: int) -> list[int]:
    """The living processes that a process started, and those that these started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found += [int(folder.name), *_children(int(folder.name))]
    return found


def test_the_same_bytes_report_and_messages_as_in_one_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = world.process("deploy", "pot.yaml", "--json")
    assert apart.code == 0, apart.err
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(world.root / "other"))
    lock = world.lock.read_bytes()
    here = world.run("deploy", "pot.yaml", "--json")
    assert world.lock.read_bytes() == lock
    slow = re.compile(
        r"^.+( done in \d|  *\d+%).*\n", re.MULTILINE
    )  # depends on how fast the machine is
    assert slow.sub("", apart.err) == slow.sub("", here.err)
    assert apart.json["artifact"] == here.json["artifact"]
    assert apart.json["measures"][0] == here.json["measures"][0]
    assert [step["cached"] for step in apart.json["steps"]] == [False] * 3


def test_the_command_itself_imports_no_tool_and_starts_no_child_in_vain(world: World) -> None:
    script = (
        "import sys, subprocess; from yolodeploy.cli.main import main; sys.argv[1:] = ['deploy', 'pot.yaml'];"
        "start = subprocess.Popen.__init__; started = [];"
        "subprocess.Popen.__init__ = lambda *a, **k: (started.append(a[1]), start(*a, **k))[1];"
        "code = main(); print(code, len(started), [n for n in ('torch', 'cv2', 'vl_convert') if n in sys.modules])"
    )
    for expected in ("0 1 ['vl_convert']", "0 0 []"):  # which draws the page of a new bundle
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == expected, done.stderr


def test_a_crash_in_one_recipe_leaves_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.recipe(("  - press: {strength: 0.25}\n", ""), name="plain.yaml")
    monkeypatch.setenv("CLAY_FAULT", "press:segfault")
    result = world.process("deploy", "pot.yaml", "plain.yaml", "--json")
    assert result.code == 139
    crashed, good = result.json
    assert crashed["error"]["kind"] == "native fault"
    assert crashed["error"]["message"].startswith(
        "pot.yaml:11:5: `press` of kiln: native code of a tool crashed (Segmentation fault). "
    )
    assert good["ok"]
    assert world.log == ["load", "export", "press", "export"]


def test_the_trace_of_an_error_comes_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:raise")
    result = world.process("deploy", "pot.yaml", "-v")
    assert result.code == 7
    assert 'clay.py", line' in result.err
    assert "RuntimeError: first line of the tool's output\nthe mould cracked" in result.err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(
    world: World, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:slow")
    monkeypatch.setenv("CLAY_SECONDS", "20")
    process = world.start("deploy", "pot.yaml")
    while world.log[-1:] != ["export"]:
        time.sleep(0.05)
    children = _children(process.pid)
    assert len(children) == 1
    process.send_signal(sent)
    process.communicate(timeout=15)
    end = time.monotonic() + 5
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_child_that_was_killed_between_jobs_is_replaced(world: World) -> None:
    plan = world.plan()
    recipe, store = str(world.root / "pot.yaml"), str(world.cache)
    work = Work(recipe, "pot.yaml", (), trusted=False, store=store, shared=None, folder="")
    load = Job(plan.steps[0].id, What.STEP, 0, (), "load", work)
    with LocalChild(Console(-1), Run([], [], None, json=False)) as child:
        assert child.perform(load).ok
        assert child._child is not None
        os.kill(child._child._process.pid, signal.SIGKILL)
        child._child._process.wait()
        killed = child.perform(load).fault
        assert killed is not None
        assert killed.exit_code == 137
        assert child.perform(load).cached
        foreign = child.perform(Job("0" * 64, What.STEP, 1, (), "export", work))
        assert foreign.other.startswith("plans other steps")


@pytest.mark.parametrize(
    "message", [[], ["say"], ["say", "close", "x"], ["end", 3], ["fly"], [["say"]]]
)
def test_messages_that_make_no_sense_are_refused(message: list[object]) -> None:
    with pytest.raises(ValueError, match="message"):
        Replay(Console()).take(message)


@pytest.mark.parametrize("change", [{"index": "x"}, {"what": "all"}, {"more": 1}, {"work": None}])
def test_a_job_is_read_strictly(change: dict[str, object]) -> None:
    work = Work("/r.yaml", "r.yaml", (), trusted=False, store="/s", shared=None, folder="/")
    job = Job("0" * 64, What.STEP, 1, (), "export", work)
    assert Job.parse(job.text()) == job
    with pytest.raises(ValueError, match="validation error"):
        Job.parse(json.dumps({**json.loads(job.text()), **change}))
