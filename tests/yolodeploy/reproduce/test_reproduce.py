"""`yolodeploy reproduce`: the same bytes under other conditions, and the report where they differ."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from world import World

from yolodeploy.backend import Artifact, content
from yolodeploy.cli import main as cli
from yolodeploy.execution import Run
from yolodeploy.execution.bug_report import report_bug
from yolodeploy.reproduce.artifact_diff import MAX_LINES, differing
from yolodeploy.reproduce.variations import Variations, vary

PROBE = """
import getpass, json, os, sys, time, datetime
from yolodeploy.cli import main as cli
cli.main = lambda: print(json.dumps([
    time.time(), datetime.datetime.now().year, getpass.getuser(), time.localtime().tm_gmtoff, os.getcwd(),
    os.umask(0), hash("a"), os.path.expanduser("~"),
]))
"""


def test_every_condition_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself says where, when and who it is."""
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "sitecustomize.py").write_text(PROBE)
    monkeypatch.syspath_prepend(str(tmp_path / "probe"))
    place = vary(tmp_path / "place")
    _, printed = place.run([], lambda _: None)
    now, year, user, zone, folder, umask, hashed, home = json.loads(printed)
    assert now - time.time() == pytest.approx(403.3 * 86400, rel=0.01)
    assert year > time.localtime().tm_year
    assert (user, folder) == ("somebody", str(tmp_path / "place" / "work"))
    assert zone != time.localtime().tm_gmtoff
    assert home == str(tmp_path / "place" / "home")
    assert f"{umask:03o}" == place.described()["umask"] != f"{_umask():03o}"
    assert place.run([], lambda _: None)[1].count(str(hashed)) == 1


def test_inherited_conditions_are_not_reported_as_varied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKETIME", "+0d")
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1:other.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "sitecustomize.py").write_text(PROBE)
    monkeypatch.syspath_prepend(str(tmp_path / "probe"))
    place = vary(tmp_path / "place")
    assert place.environment["LD_PRELOAD"] == "other.so"
    assert not [name for name in place.environment if name.startswith(("FAKETIME", "XDG_"))]
    now = json.loads(place.run([], lambda _: None)[1])[0]
    assert now - time.time() == pytest.approx(403.3 * 86400, rel=0.01)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_reproduces_and_leaves_the_store_alone(deployed: World) -> None:
    before = deployed.state()
    result = deployed.run("reproduce", "pot.yaml")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "1 of 1 reproduced byte for byte"
    assert deployed.log == ["load", "export", "press"]
    assert deployed.state() == before


def test_json_and_common_steps_run_once(deployed: World) -> None:
    deployed.recipe(("0.25", "0.5"), name="jug.yaml")
    assert deployed.run("deploy", "jug.yaml", "-q").code == 0
    ran = len(deployed.log)
    result = deployed.run("reproduce", "pot.yaml", "jug.yaml", "--json", "-q")
    assert [(row["recipe"], row["ok"], row["steps"]) for row in result.json["recipes"]] == [
        ("pot.yaml", True, 3),
        ("jug.yaml", True, 3),
    ]
    assert deployed.log[ran:] == ["load", "export", "press", "press"]
    assert result.json["elsewhere"]["USER"] == "somebody"
    assert result.err == ""


def test_surroundings_that_leak_are_found_and_named(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin writes the time into its result: step, file and field are named."""
    monkeypatch.setenv("CLAY_FAULT", "export:clock")
    result = deployed.run("reproduce", "pot.yaml")
    assert result.code == 11
    assert "pot.yaml:10:5: `export` gives other bytes than pot.lock names: sha256 " in result.error
    assert "    brick.json: clock is new\n" in result.error
    assert "  After it, `press` differ too." in result.error
    assert "NOT REPRODUCED" in result.out


def test_a_lost_result_leaves_only_digests(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:clock")
    result = deployed.run("reproduce", "pot.yaml", "--cache", str(deployed.root / "empty"))
    assert result.code == 11
    assert "has no such result, so only digests can be compared." in result.error


def test_a_lock_of_another_machine_is_told_from_a_build_that_wavers(deployed: World) -> None:
    lock = json.loads(deployed.lock.read_text())
    lock["steps"][2]["output"] = "0" * 64
    deployed.lock.write_text(json.dumps(lock))
    result = deployed.run("reproduce", "pot.yaml")
    assert result.code == 11
    assert "this machine agrees with itself" in result.error
    assert "`press` computes with images" in result.error


def test_without_a_lock_and_with_another(deployed: World) -> None:
    deployed.recipe(("0.25", "0.5"))
    result = deployed.run("reproduce", "pot.yaml")
    assert result.code == 8
    assert "steps.press.params.strength: locked 0.25, now 0.5" in result.error
    deployed.lock.unlink()
    assert deployed.run("reproduce", "pot.yaml").code == 8
    assert deployed.log == []


def test_a_step_that_varies_is_never_called_reproduced(world: World) -> None:
    world.recipe(
        ("  calibration:", "  training: {split: train}\n  calibration:"),
        ("  - export", "  - teach: {device: gpu}\n  - export"),
    )
    world.good()
    ran = len(world.log)
    result = world.run("reproduce", "pot.yaml")
    assert result.code == 11
    assert "`teach` gives other bytes every time: sums on gpu come in any order." in result.error
    assert len(world.log) == ran


def test_pinned_files_and_images_of_one_name_come_along(world: World) -> None:
    import hashlib

    teacher = world.write("teachers/best.clay", (world.root / "model.clay").read_bytes())
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    for source in sorted((world.root / "data/images/val").iterdir())[:2]:
        twin = world.root / "data/images/more" / source.name
        twin.parent.mkdir(exist_ok=True)
        twin.write_bytes(source.read_bytes() + b"\0")
    yaml = world.root / "data/data.yaml"
    yaml.write_text(yaml.read_text().replace("val: images/val", "val: [images/val, images/more]"))
    world.recipe(
        ("  calibration:", "  training: {split: train, images: 3}\n  calibration:"),
        (
            "  - export",
            f"  - teach: {{like: {{file: teachers/best.clay, sha256: {digest}}}}}\n  - export",
        ),
    )
    world.good()
    result = world.run("reproduce", "pot.yaml")
    assert result.code == 0, result.err


def test_a_failing_rebuild_keeps_its_exit_code_and_others_continue(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:raise")
    result = deployed.run("reproduce", "pot.yaml", "no.yaml")
    assert result.code == 7
    assert "pot.yaml: rebuilt under other conditions, it ended with code 7: " in result.error
    assert "no.yaml: no such file" in result.error
    assert "0 of 2 reproduced" in result.out


def test_the_log_of_a_bug_in_a_rebuild_is_kept(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the build is removed; what the message tells to report is not."""
    monkeypatch.setenv("CLAY_FAULT", "press:segfault")
    native = deployed.run("reproduce", "pot.yaml")
    assert native.code == 7
    monkeypatch.setattr("yolodeploy.reproduce.variations.Variations.run", _bug)
    bug = deployed.run("reproduce", "pot.yaml")
    assert bug.code == 70
    assert (
        "pot.yaml: rebuilt under other conditions, it ended with code 70: unexpected " in bug.error
    )
    for result in (native, bug):
        log = re.search(r"The trace is in (.+); please report it\.", result.error)
        assert log
        assert Path(log[1]).parent == deployed.cache / "logs"
        assert "yolodeploy build " in Path(log[1]).read_text()


def _bug(place: Variations, command: list[str], said: Callable[[str], None]) -> tuple[int, str]:
    """As a command with a bug ends."""
    run = Run(["yolodeploy", *command], [], command[-1], json=True)
    message = str(report_bug(ZeroDivisionError(), run))
    return 70, json.dumps({"error": {"message": message}})


def test_keep(deployed: World) -> None:
    assert deployed.run("reproduce", "pot.yaml", "--keep", "kept").code == 0
    assert len(list((deployed.root / "kept/store/objects").glob("??/*"))) == 3
    again = deployed.run("reproduce", "pot.yaml", "--keep", "kept")
    assert (again.code, again.error) == (
        4,
        "--keep kept: File exists. Name a folder that does not exist yet.",
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    deployed: World, sent: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process that builds ends too, and the folder is removed."""
    monkeypatch.setenv("CLAY_FAULT", "export:slow")
    monkeypatch.setenv("CLAY_SECONDS", "20")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = deployed.start("reproduce", "pot.yaml")
    assert process.stderr is not None
    for line in process.stderr:
        if "export" in line:
            break
    time.sleep(0.2)
    start = time.monotonic()
    process.send_signal(sent)
    out, err = process.communicate(timeout=15)
    assert time.monotonic() - start < 10
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(tmp_path.glob("yolodeploy-reproduce-*"))


class Parts:
    """A backend that takes one file apart by itself."""

    def parts(self, artifact: Artifact) -> dict[str, dict[str, str]]:
        data = (artifact.path / "own.bin").read_bytes()
        return {"own.bin": {"head": content(data[:2]), "tail": content(data[2:])}}


def test_artifacts_are_taken_apart(tmp_path: Path) -> None:
    tensor = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}}).encode()  # fmt: skip
    files = {
        "info.json": (b'{"a": {"b": [1, 2]}}', b'{"a": {"b": [1, 3]}}'),
        "graph.txt": (b"one\ntwo", b"one\nthree"),
        "w.safetensors": (
            len(tensor).to_bytes(8, "little") + tensor + b"\1\2\3",
            len(tensor).to_bytes(8, "little") + tensor + b"\1\2\4",
        ),
        "own.bin": (b"abcd", b"abce"),
        "same.bin": (b"x", b"x"),
        "odd.json": (b"{", b"["),
    }
    for side in (0, 1):
        folder = tmp_path / str(side)
        folder.mkdir()
        for name, contents in files.items():
            (folder / name).write_bytes(contents[side])
        np.savez(folder / "n.npz", a=np.zeros(2), b=np.full(2, side))
    (tmp_path / "0" / "gone").write_bytes(b"")
    lines = differing(
        Parts(),  # type: ignore[arg-type]
        Artifact("x", tmp_path / "0", ""),
        Artifact("x", tmp_path / "1", ""),
    )
    assert lines == [
        "gone: not built",
        "graph.txt: line 2 was two, is three",
        "info.json: a.b.1 was 2, is 3",
        "n.npz: b.npy differs",
        "odd.json: content differs",
        "own.bin: tail differs",
        "w.safetensors: b differs",
    ]
    assert len(lines) < MAX_LINES


def test_the_command_is_offered() -> None:
    commands = next(a for a in cli.parser()._actions if a.dest == "command").choices
    assert "reproduce" in commands


def test_without_anything_that_shifts_the_clock(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("yolodeploy.system.distributions._version", lambda _: "missing")
    result = deployed.run("reproduce", "pot.yaml")
    assert (result.code, result.error) == (
        4,
        "the clock cannot be shifted: time-machine not installed. Run: pip install "
        "'yolodeploy[reproduce]', or install faketime.",
    )
