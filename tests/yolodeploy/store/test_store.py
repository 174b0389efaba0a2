"""The store under stress: many processes, pruning during builds, damaged objects, unusual file systems and clocks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from world import Result, World, objects

from yolodeploy.store.leases import ObjectLeases
from yolodeploy.store.objects import read_meta
from yolodeploy.store.store import Store
from yolodeploy.system.digest import digest_of

CROWD = 8


def _home(world: World, step: str = "press") -> Path:
    steps = {json.loads((h / "meta.json").read_text())["step"]: h for h in objects(world.cache)}
    return steps[step]


def _wait_for(world: World, line: str) -> None:
    end = time.monotonic() + 20
    while line not in world.log:
        assert time.monotonic() < end, world.log
        time.sleep(0.02)


def test_a_crowd_runs_each_step_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processes build two recipes that share their first steps; the first to build is killed."""
    monkeypatch.setenv("CLAY_FAULT", "load:slow,export:slow")
    monkeypatch.setenv("CLAY_SECONDS", "1")
    world.recipe(("0.25", "0.5"), name="jug.yaml")
    crowd = [
        world.start("build", name, "-q", start_new_session=True)
        for name in ["pot.yaml", "jug.yaml"] * (CROWD // 2)
    ]
    _wait_for(world, "load")
    builder = next(p for p in crowd if _holds_lock(world, p.pid))
    os.killpg(builder.pid, signal.SIGKILL)
    said = {process.pid: process.communicate(timeout=60) for process in crowd}
    codes = [process.returncode for process in crowd]
    assert sorted(codes) == [-signal.SIGKILL] + [0] * (CROWD - 1), said
    # the killed process began `load`, and one of the others ran it again
    assert sorted(world.log) == ["export", "load", "load", "press", "press"]
    assert world.run("cache", "verify").code == 0
    assert not world.leftovers()


def _holds_lock(world: World, pid: int) -> bool:
    """Whether a process, or the child that works for it, holds the lock of an id, according to the kernel."""
    inodes = {str(file.stat().st_ino) for file in world.cache.glob("locks/*.lock")}
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    held = [row for row in rows if "->" not in row]
    holders = [int(row[4]) for row in held if row[5].split(":")[-1] in inodes]
    return any(pid in (holder, _parent(holder)) for holder in holders)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_prune_leaves_what_a_running_build_uses(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:slow")
    monkeypatch.setenv("CLAY_SECONDS", "2")
    deployed.recipe(("0.25", "0.5"))
    build = deployed.start("deploy", "pot.yaml")
    _wait_for(deployed, "press")
    pruned = deployed.run("cache", "prune", "--all", "--json").json
    assert (pruned["in_use"], pruned["removed"]) == (3, 4)  # load, export and the fp32 export stay
    again = deployed.run("cache", "prune", "--all")
    assert again.out.endswith("freed; 3 are in use by a running build and stay\n")
    _, said = build.communicate(timeout=60)
    assert build.returncode == 0, said
    assert deployed.log.count("load") == 0
    monkeypatch.delenv("CLAY_FAULT")
    assert deployed.deploy("--locked").code == 0
    assert deployed.run("cache", "prune", "--all", "--json").json["in_use"] == 0
    assert not list(deployed.cache.glob("users/*"))


def test_the_lease_of_a_killed_build_ends_with_it(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "press:slow")
    monkeypatch.setenv("CLAY_SECONDS", "30")
    deployed.recipe(("0.25", "0.5"))
    build = deployed.start("build", "pot.yaml")
    _wait_for(deployed, "press")
    build.kill()
    build.communicate()
    assert len(list(deployed.cache.glob("users/tmp*"))) == 4  # of the command and of its child
    assert deployed.run("cache", "prune", "--json").json["removed"] == 0
    assert not list(deployed.cache.glob("users/tmp*"))
    assert deployed.run("cache", "prune", "--all", "--json").json["removed"] == 7


def test_a_lease_is_seen_by_others_and_ends(tmp_path: Path) -> None:
    mine, other = ObjectLeases(tmp_path), ObjectLeases(tmp_path)
    mine.hold(["a", "b"])
    mine.hold(["c"])
    with other.locked():
        assert other.used_by_others() == {"a", "b", "c"}
    with mine.locked():
        assert mine.used_by_others() == set()
    mine.release()
    with other.locked():
        assert other.used_by_others() == set()


def test_pruning_and_building_in_turns_never_fails_a_build(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds reuse stored results while another process keeps removing them."""
    script = (
        "import sys; from yolodeploy.cli.main import main\n"
        "for _ in range(40): assert main(['cache', 'prune', '--all', '-q']) == 0"
    )
    pruner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    builds = [deployed.start("deploy", "pot.yaml", "--locked") for _ in range(2)]
    said = [build.communicate(timeout=60) for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert pruner.wait(timeout=60) == 0
    assert deployed.run("cache", "verify").code == 0


def test_a_tool_that_outlives_its_build_holds_no_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step starts a process, and the build is killed; the next build does not wait for that process."""
    monkeypatch.setenv("CLAY_FAULT", "export:tool-left,export:slow")
    monkeypatch.setenv("CLAY_SECONDS", "30")
    build = world.start("build", "pot.yaml")
    _wait_for(world, "tool")
    build.kill()
    tool = int(next(world.cache.glob("tmp/*/scratch/tool")).read_text())
    try:
        monkeypatch.delenv("CLAY_FAULT")
        start = time.monotonic()
        assert world.run("build", "pot.yaml").code == 0
        assert time.monotonic() - start < 20
        os.kill(tool, 0)  # it still lives
    finally:
        os.kill(tool, signal.SIGKILL)
        build.communicate()


def _linked(path: Path, away: Path) -> None:
    path.rename(away)
    path.symlink_to(away)


def _filed(path: Path, away: Path) -> None:
    path.rename(away)
    path.write_text("x")


ODD = {
    "linked file": lambda home, away: _linked(home / "data/weights.bin", away),
    "linked object": _linked,
    "linked data": lambda home, away: _linked(home / "data", away),
    "pipe": lambda home, away: os.mkfifo(home / "data/pipe"),
    "file in place of the object": _filed,
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_object_is_made_again(deployed: World, what: str, tmp_path: Path) -> None:
    home, away = _home(deployed), tmp_path / "away"
    ODD[what](home, away)
    before = {p: p.read_bytes() for p in (away, *away.rglob("*")) if p.is_file()}
    assert list(deployed.run("cache", "verify", "--json").json["damaged"]) == [home.name]
    result = deployed.good("--locked")
    assert result.err.count("is damaged and will be made again") == 1
    assert deployed.log == ["press"]
    assert not home.is_symlink()
    assert {p: p.read_bytes() for p in before} == before  # the target of a link is left alone
    assert deployed.run("cache", "verify").code == 0


def test_swapped_objects_are_both_made_again(deployed: World, tmp_path: Path) -> None:
    one, other = _home(deployed, "export"), _home(deployed)
    for old, new in ((one, tmp_path / "x"), (other, one), (tmp_path / "x", other)):
        old.rename(new)
    damaged = deployed.run("cache", "verify", "--json").json["damaged"]
    assert sorted(damaged) == sorted([one.name, other.name])
    deployed.good("--locked")
    assert sorted(deployed.log) == ["export", "export", "press"] or sorted(deployed.log) == [
        "export",
        "press",
    ]
    assert deployed.run("cache", "verify").code == 0


def test_a_step_that_leaves_a_link_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    monkeypatch.setenv("CLAY_FAULT", f"export:link={outside}")
    result = world.run("build", "pot.yaml")
    assert (result.code, result.error) == (
        7,
        (
            "pot.yaml:10:5: `export` left something that is not a file: brick/linked. "
            "Report it to the author of the kiln plugin."
        ),
    )
    assert outside.stat().st_mode & 0o777 == 0o600
    assert not world.leftovers()


def _open_to_all(world: World, mode: int) -> None:
    for path in list(world.root.parents)[:-2]:
        path.chmod(0o755)
    for path in [world.root, *world.root.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for path in [world.cache, *world.cache.rglob("*")]:
        path.chmod(mode if path.is_dir() else 0o444)


@contextlib.contextmanager
def _acting_as(user: int, group: int, umask: int = 0o022) -> Iterator[None]:
    """Act as another user, whom permissions stop, unlike root; for commands that start no process."""
    before, groups = os.umask(umask), os.getgroups()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(before)


@pytest.fixture
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to act as another user")


def test_a_read_only_store_serves_what_it_has(deployed: World, root_only: None) -> None:
    deployed.good()  # imports all modules while they may be read
    _open_to_all(deployed, 0o555)
    before = sorted(deployed.cache.rglob("*"))
    with _acting_as(65534, 65534):
        result = deployed.good("--locked")
    assert result.err == ""
    assert sorted(deployed.cache.rglob("*")) == before
    deployed.recipe(("0.25", "0.5"))
    with _acting_as(65534, 65534):
        result = deployed.run("build", "pot.yaml")
    assert result.code == 9
    assert result.error.endswith(
        ": Permission denied. A result that is not in the store yet needs a store that can be written; "
        "choose another folder with --cache or YOLODEPLOY_CACHE."
    )


def test_two_users_share_a_store_of_their_group(
    deployed: World, root_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With umask 002, in a folder with the setgid bit, both build, reuse and prune."""
    monkeypatch.delenv("CLAY_LOG")
    deployed.good()
    _open_to_all(deployed, 0o755)
    shared = deployed.root / "shared"
    shared.mkdir()
    os.chown(shared, 1234, 4321)
    shared.chmod(0o2775)

    def run(user: int, *arguments: str) -> Result:
        with _acting_as(user, 4321, 0o002):
            result = deployed.run(*arguments, "--cache", str(shared))
        assert result.code == 0, result.err
        return result

    run(1234, "build", "pot.yaml")
    deployed.recipe(("0.25", "0.5"))
    said = run(2345, "build", "pot.yaml").err
    assert "press brick ..." in said
    assert "export brick ..." not in said
    run(1234, "build", "pot.yaml")
    assert run(2345, "cache", "prune", "--all", "--json").json["removed"] == 4
    assert not objects(shared)


def test_objects_of_another_user_that_cannot_be_read(deployed: World, root_only: None) -> None:
    deployed.good()
    _open_to_all(deployed, 0o555)
    _home(deployed).chmod(0o000)
    with _acting_as(65534, 65534):
        result = deployed.run("build", "pot.yaml")
    assert result.code == 9
    assert "Permission denied. A result that is not in the store yet needs" in result.error


@pytest.mark.parametrize(
    "name", ["with space and 'quote", "größe-магазин-店", "/".join(["deep" * 20] * 30)]
)
def test_a_store_may_lie_anywhere(world: World, name: str, tmp_path: Path) -> None:
    root = str(tmp_path / name)
    assert world.run("deploy", "pot.yaml", "--cache", root).code == 0
    result = world.run("deploy", "pot.yaml", "--locked", "--cache", root)
    assert (result.code, len(world.log)) == (0, 4)


def test_a_path_that_is_too_long_is_said(world: World, tmp_path: Path) -> None:
    result = world.run("build", "pot.yaml", "--cache", str(tmp_path / ("long" * 100)))
    assert result.code == 9
    assert "File name too long" in result.error
    assert "choose another folder with --cache" in result.error


def test_a_store_that_moved_still_has_everything(deployed: World, tmp_path: Path) -> None:
    before = deployed.state()
    deployed.cache.rename(tmp_path / "moved")
    result = deployed.good("--locked", "--cache", str(tmp_path / "moved"))
    assert "..." not in result.err
    assert deployed.log == []
    (tmp_path / "moved").rename(deployed.cache)
    assert before.items() <= deployed.state().items()


def test_a_clock_that_goes_backwards_loses_nothing(deployed: World) -> None:
    """Objects and progress from the future: `--days` keeps them, builds use them, `--all` removes them."""
    home = _home(deployed)
    meta = read_meta(home)
    assert meta
    (home / "meta.json").chmod(0o644)
    (home / "meta.json").write_text(replace(meta, created=time.time() + 1e6).text())
    left = deployed.cache / "resume" / digest_of("x")
    left.mkdir(parents=True)
    os.utime(left, (time.time() + 1e6,) * 2)
    deployed.good("--locked")
    assert deployed.log == []
    assert deployed.run("cache", "prune", "--days", "0", "--json").json["removed"] == 6
    assert left.exists()
    assert home.exists()
    assert deployed.run("cache", "prune", "--all", "--json").json["removed"] == 1
    assert not left.exists()


@pytest.mark.parametrize("days", ["-1", "nan", "inf"])
def test_an_age_that_is_none_is_refused(deployed: World, days: str) -> None:
    result = deployed.run("cache", "prune", f"--days={days}")
    assert (result.code, result.error) == (
        2,
        f"--days {days}: must be a number of days, at least 0.",
    )


NO_FLOCK = """
import errno, fcntl
def flock(*_):
    raise OSError({code}, "no locks here")
fcntl.flock = flock
"""


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK"])
def test_a_file_system_without_flock(
    world: World, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If flock is missing, lock files replace it; if it fails, the message says so."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_FLOCK.format(code=f"errno.{code}"))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)
    if code == "ENOSYS":
        crowd = [world.start("build", "pot.yaml", "-q") for _ in range(3)]
        said = [process.communicate(timeout=60) for process in crowd]
        assert [process.returncode for process in crowd] == [0, 0, 0], said
        assert sorted(world.log) == ["export", "load", "press"]
    else:
        result = world.process("build", "pot.yaml")
        assert result.code == 9
        assert result.error.endswith(
            "no locks here. The store needs a file system that can lock files; choose another "
            "folder with --cache or YOLODEPLOY_CACHE."
        )


def test_no_hard_links_and_no_unnamed_files_are_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", missing)
    monkeypatch.setattr(os, "O_TMPFILE", None, raising=False)
    world.good()


def _limited(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [0, 100, 1_500, 30_000])
def test_files_that_may_not_grow(deployed: World, size: int) -> None:
    """`ulimit -f` stops a build at different points: a message, no half-made object, and then it works."""
    before = deployed.state()
    deployed.recipe(("kiln-a", "kiln-b"))
    deployed.weights(padding=60_000)
    result = deployed.process("deploy", "pot.yaml", preexec_fn=lambda: _limited(size))
    assert result.code == 9, result.err
    assert result.error.startswith(str(deployed.cache))
    assert result.error.endswith(
        "File too large. The file system, or `ulimit -f`, does not allow files that large; choose another "
        "folder with --cache or YOLODEPLOY_CACHE."
    )
    assert before.items() <= deployed.state().items()
    assert not deployed.leftovers()
    deployed.good()
    assert deployed.run("cache", "verify").code == 0


def test_a_disk_that_fills_up_at_any_point(world: World, tmp_path: Path) -> None:
    """File systems of many sizes fill up; after each is made larger, the next run continues."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "none", str(disk), "-o"]
    if os.geteuid() != 0 or subprocess.run([*mount, "size=4k"], check=False).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; run as root to test a full disk")
    chance = random.Random(3)
    cache, full = disk / "c", 0
    try:
        for number in range(6):
            size = 4 * (1 + 2 * number) if number < 4 else chance.randrange(44, 120, 4)
            subprocess.run([*mount, f"remount,size={size}k"], check=True)
            result = world.deploy("--cache", str(cache))
            if result.code:
                full += 1
                assert (result.code, result.error) == (
                    9,
                    (
                        f"{cache}: the disk is full. Free some space, `yolodeploy cache prune`, or "
                        "choose another folder with --cache or YOLODEPLOY_CACHE."
                    ),
                )
            assert not list(cache.glob("tmp/*"))
            assert world.run("cache", "verify", "--cache", str(cache)).code == 0
            finished = objects(cache)
            subprocess.run([*mount, "remount,size=4m"], check=True)
            world.good("--cache", str(cache))
            assert set(finished) <= set(objects(cache))
            world.good("--locked", "--cache", str(cache))
            assert world.run("cache", "prune", "--all", "--cache", str(cache)).code == 0
            for left in sorted(cache.rglob("*"), reverse=True):
                left.rmdir() if left.is_dir() else left.unlink()
        assert full >= 5
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_store_object_of_one_process_ends_its_lease(tmp_path: Path) -> None:
    store = Store(tmp_path, print)
    store.hold(["a"])
    assert len(list(tmp_path.glob("users/tmp*"))) == 2
    del store
    assert not list(tmp_path.glob("users/tmp*"))


CHANGED = {
    "weights": ("model.clay", "load", 5, "pot.yaml:2:3: model.clay changed meanwhile."),
    "images": ("data/images/train/train000.png", "press", 6, "calibration images or labels changed"),
    "labels": ("data/labels/train/train002.txt", "press", 6, "calibration images or labels changed"),
    "measured": ("data/images/val/val003.png", "infer", 6, "evaluation images or labels changed"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_inputs_that_change_while_a_step_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A trainer overwrites `last.pt`: no result of the new bytes is kept under the id of the old ones."""
    name, step, code, message = CHANGED[what]
    good = (world.root / name).read_bytes()
    monkeypatch.setenv("CLAY_FAULT", f"{step}:slow")
    monkeypatch.setenv("CLAY_SECONDS", "0.05" if step == "infer" else "1.5")
    run = world.start("deploy", "pot.yaml")
    if step == "infer":
        _said(run, "measure")
    else:
        _wait_for(world, step)
    (world.root / name).write_bytes(good + b" ")
    _, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert message in err
    assert "The result was not kept." in err
    assert not world.lock.exists()
    monkeypatch.delenv("CLAY_FAULT")
    (world.root / name).write_bytes(good)
    ran = len(world.log)
    world.good()
    assert step == "infer" or step in world.log[ran:]
    lock = json.loads(world.lock.read_text())
    world.good("--cache", str(world.root / "other"))
    assert json.loads(world.lock.read_text()) == lock


def _said(run: subprocess.Popen[str], word: str) -> None:
    assert run.stderr
    for line in run.stderr:
        if word in line:
            return


def test_labels_that_change_while_layers_are_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No figure measured on changed labels is remembered for the original ones."""
    label = world.root / "data/labels/val/val001.txt"
    good = label.read_text()
    monkeypatch.setenv("CLAY_FAULT", "infer:slow")
    monkeypatch.setenv("CLAY_SECONDS", "0.1")
    run = world.start("sensitivity", "pot.yaml", "--map", "--images", "1")
    _wait_for(world, "alone-b")
    label.write_text("")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 6, err
    assert "evaluation images or labels changed meanwhile" in err
    monkeypatch.delenv("CLAY_FAULT")
    label.write_text(good)
    command = ("sensitivity", "pot.yaml", "--map", "--images", "1", "--json")
    figures = world.run(*command).json["steps"]
    assert figures == world.run(*command, "--cache", str(world.root / "other")).json["steps"]


def test_a_pinned_file_that_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = world.write("teacher.clay", "x")
    digest = hashlib.sha256(b"x").hexdigest()
    world.recipe(
        ("  calibration:", "  training: {split: train}\n  calibration:"),
        (
            "  - export",
            f"  - teach: {{like: {{file: teacher.clay, sha256: {digest}}}}}\n  - export",
        ),
    )
    monkeypatch.setenv("CLAY_FAULT", "epoch2:slow")
    run = world.start("build", "pot.yaml")
    _wait_for(world, "epoch2")
    teacher.write_text("y")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 5, err
    assert "teacher.clay has sha256" in err
    assert not list(world.cache.glob("resume/*"))  # it learned from the wrong file


def test_prune_in_a_folder_that_is_no_store(deployed: World) -> None:
    """`--cache "$UNSET"` or a wrong folder: files that are not the store's are not touched."""
    ours = [
        "thesis.txt",
        "tmp/thesis.txt",
        "tmp/a.b/y",
        "objects/ab/photo.raw",
        "resume/z",
        "locks/k",
    ]
    for name in ours:
        deployed.write(f"home/{name}", "mine")
    result = deployed.run("cache", "prune", "--all", "--cache", "home")
    assert (result.code, result.out) == (0, "0 results removed, 0.00 MB freed\n")
    assert all((deployed.root / "home" / name).read_text() == "mine" for name in ours)
    assert deployed.run("cache", "verify", "--cache", "home").code == 0
    result = deployed.run("cache", "prune", "--cache", "")
    assert (result.code, "argument --cache: is empty. Name a folder" in result.err) == (2, True)


def _edited(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        file.chmod(0o644)
        file.write_text(change(file.read_text()))

    return edit


DESCRIBED = {
    "digest": _edited(lambda text: text.replace('"digest": "', '"digest": "0', 1)),
    "format": _edited(lambda text: text.replace("brick", "brict")),
    "size": _edited(lambda text: text.replace('"bytes": ', '"bytes": 1')),
    "time": _edited(lambda text: json.dumps({**json.loads(text), "created": 1e18, "seal": None})),
    "no time": _edited(
        lambda text: json.dumps({**json.loads(text), "created": float("nan"), "seal": None})
    ),
}


@pytest.mark.parametrize("what", DESCRIBED)
def test_a_changed_description_is_damage(deployed: World, what: str) -> None:
    lock, home = deployed.lock.read_bytes(), _home(deployed, "export")
    DESCRIBED[what](home / "meta.json")
    assert list(deployed.run("cache", "verify", "--json").json["damaged"]) == [home.name]
    assert deployed.run("cache", "show").code == 0
    result = deployed.good("--locked")
    assert f"stored result {home.name[:12]} is damaged and will be made again" in result.err
    deployed.good()
    assert deployed.lock.read_bytes() == lock


def test_a_description_without_a_seal_is_of_an_earlier_version(deployed: World) -> None:
    file = _home(deployed) / "meta.json"
    file.chmod(0o644)
    raw = {k: v for k, v in json.loads(file.read_text()).items() if k not in {"seal", "origin"}}
    file.write_text(json.dumps(raw))
    deployed.good("--locked")
    assert deployed.log == []


def test_a_lock_that_names_other_bytes_is_not_rewritten_silently(deployed: World) -> None:
    lock = json.loads(deployed.lock.read_text())
    lock["steps"][1]["output"] = "0" * 64
    deployed.lock.write_text(json.dumps(lock))
    result = deployed.run("deploy", "pot.yaml", "--locked")
    assert result.code == 8
    assert "The same inputs gave different bytes" in result.error
    result = deployed.good()
    assert "warning: pot.lock: the result of `export` was 000000000000 and now is " in result.err
    assert deployed.good().err.count("warning") == 0


def test_a_lease_that_found_the_disk_full_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = ObjectLeases(tmp_path), ObjectLeases(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(ObjectLeases, "_append", _no_room)
        mine.hold(["a"])
    mine.hold(["b"])
    with other.locked():
        assert other.used_by_others() == {"a", "b"}


def _no_room(*_: object) -> None:
    raise OSError(28, os.strerror(28))


def test_a_gate_that_stays_shut_is_told_of(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.store.leases._TIMEOUT", 0.1)
    with ObjectLeases(deployed.cache).locked():
        result = deployed.run("build", "pot.yaml")
    assert result.code == 9
    assert "another process, perhaps `cache prune`, keeps the store locked." in result.error
