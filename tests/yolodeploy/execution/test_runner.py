"""Building in the store: what runs, what is reused, and what a failure leaves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, objects

from yolodeploy.system.digest import digest_of


def test_each_step_runs_once_and_later_runs_reuse_it(world: World) -> None:
    first = world.run("build", "pot.yaml", "--json").json
    assert world.log == ["load", "export", "press"]
    again = world.run("build", "pot.yaml", "--json").json
    assert world.log == ["load", "export", "press"]
    assert (first.pop("cached"), again.pop("cached")) == (False, True)
    assert first == again
    assert first["format"] == "brick"
    assert Path(first["path"], "brick.json").is_file()


def test_a_change_runs_only_what_comes_after_it(world: World) -> None:
    world.run("build", "pot.yaml")
    world.recipe(("0.25", "0.5"))
    world.run("build", "pot.yaml")
    assert world.log == ["load", "export", "press", "press"]


def test_stored_files_are_read_only(world: World) -> None:
    world.run("build", "pot.yaml")
    files = [path for home in objects(world.cache) for path in home.rglob("*") if path.is_file()]
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}


HINT = "Run with -v for the full trace."
FAULTS = {
    "export:raise": (
        7,
        f"pot.yaml:10:5: `export` of kiln failed: RuntimeError: the mould cracked. {HINT}",
    ),
    "export:index": (
        7,
        f"pot.yaml:10:5: `export` of kiln failed: IndexError: list index out of range. {HINT}",
    ),
    "export:sysexit": (7, f"pot.yaml:10:5: `export` of kiln failed: SystemExit: 0. {HINT}"),
    "export:tool": (
        7,
        (
            "pot.yaml:10:5: `export` of kiln failed: FileNotFoundError: [Errno 2] No such file or "
            f"directory: 'potter'. Is the tool installed? {HINT}"
        ),
    ),
    "export:full": (
        9,
        (
            "CACHE: the disk is full. Free some space, `yolodeploy cache prune`, or choose another "
            "folder with --cache or YOLODEPLOY_CACHE."
        ),
    ),
    "export:words": (
        9,
        (
            "CACHE: the disk is full. Free some space, `yolodeploy cache prune`, or choose another "
            "folder with --cache or YOLODEPLOY_CACHE."
        ),
    ),
    "export:interrupt": (
        130,
        "stopped. Finished steps are kept; the next run continues from there.",
    ),
    "export:file": (
        7,
        (
            "pot.yaml:10:5: `export` returned brick/brick.json, which is not a folder. "
            "Report it to the author of the kiln plugin."
        ),
    ),
    "export:empty": (
        7,
        (
            "pot.yaml:10:5: `export` left no files in brick. "
            "Report it to the author of the kiln plugin."
        ),
    ),
    "export:elsewhere": (
        7,
        (
            "pot.yaml:10:5: `export` returned /tmp, which is not in its work folder. "
            "Report it to the author of the kiln plugin."
        ),
    ),
    "export:clash": (
        7,
        (
            "pot.yaml:10:5: `export` wrote a file named `labels.txt`, which is the name of a bundle's own file. "
            "Report it to the author of the kiln plugin."
        ),
    ),
    "press:interrupt": (
        130,
        "stopped. Finished steps are kept; the next run continues from there.",
    ),
    "open:raise": (
        7,
        f"pot.yaml:11:5: opening the result of `press` in kiln failed: RuntimeError: the mould cracked. {HINT}",
    ),
    "open-worker:raise": (
        7,
        "pot.yaml:11:5: timing the artifact in a process of its own failed: the mould cracked",
    ),
    "open-worker:abort": (
        7,
        "pot.yaml:11:5: timing the artifact in a process of its own failed: it was killed by SIGABRT",
    ),
    "open-worker:exit": (
        7,
        "pot.yaml:11:5: timing the artifact in a process of its own failed: it ended with exit code 3",
    ),
    "open-worker:silent": (
        7,
        "pot.yaml:11:5: timing the artifact in a process of its own failed: it printed no figures",
    ),
    "infer:raise": (
        7,
        f"pot.yaml:11:5: running the result of `press` in kiln failed: RuntimeError: the mould cracked. {HINT}",
    ),
    "infer:nan": (
        7,
        (
            "pot.yaml:11:5: for val000.png the output of the result of `press` in kiln has values that are not "
            "finite. "
            "The export is broken; report it with the recipe."
        ),
    ),
    "infer:shape": (
        7,
        (
            "pot.yaml:11:5: for val000.png the artifact's output has the shape [6, 8], the source model's "
            "[7, 8]. The export is broken; report it with the recipe."
        ),
    ),
    "infer:interrupt": (
        130,
        "stopped. Finished steps are kept; the next run continues from there.",
    ),
    "describe:raise": (
        7,
        f"pot.yaml:11:5: describing the result of `press` in kiln failed: RuntimeError: the mould cracked. {HINT}",
    ),
}


def _apart(fault: str) -> Any:
    """Faults of the process that times need that process."""
    return pytest.param(fault, marks=pytest.mark.apart) if "worker" in fault else fault


@pytest.mark.parametrize("fault", map(_apart, FAULTS))
def test_a_failure_has_one_message_and_loses_nothing(
    deployed: World, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, message = FAULTS[fault]
    before = deployed.state()
    deployed.recipe(("kiln-a", "kiln-b"))  # another target: everything after `load` runs again
    monkeypatch.setenv("CLAY_FAULT", fault)
    # A signal goes to a process of its own: here it would meet whatever other tests loaded.
    run = deployed.process if fault.endswith(":interrupt") else deployed.run
    result = run("deploy", "pot.yaml")
    assert result.error == message.replace("CACHE:", f"{deployed.cache}:")
    assert (result.code, result.out) == (code, "")
    assert before.items() <= deployed.state().items()
    assert not deployed.leftovers()
    monkeypatch.delenv("CLAY_FAULT")
    deployed.good()


def test_verbose_shows_the_tools_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:raise")
    result = world.run("build", "pot.yaml", "-v")
    assert "Traceback" in result.err
    assert "in _raise" in result.err
    assert "Traceback" not in world.run("build", "pot.yaml").err


def test_a_model_error_names_the_line(world: World) -> None:
    world.write("model.clay", "no json")
    result = world.deploy()
    assert (result.code, result.error) == (
        5,
        "pot.yaml:2:3: model.clay is not a clay model. Fire it first.",
    )
    assert not world.leftovers()


@pytest.mark.parametrize(
    ("fault", "code"), [("load:abort", 134), ("export:exit", 7), ("open:abort", 134)]
)
def test_a_native_crash_loses_nothing(
    deployed: World, fault: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = deployed.state()
    deployed.recipe(("kiln-a", "kiln-b"))
    if fault.startswith("load"):
        deployed.weights(padding=80)
    monkeypatch.setenv("CLAY_FAULT", fault)
    assert deployed.process("deploy", "pot.yaml").code == code
    assert before.items() <= deployed.state().items()
    monkeypatch.delenv("CLAY_FAULT")
    deployed.good()
    assert deployed.run("cache", "verify").code == 0
    assert not [name for name in deployed.leftovers() if "kiln-b" in name]


def test_missing_toolchain_is_said_where_it_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.recipe(("kiln-a", "oven-x"), ("\n  - press: {strength: 0.25}", ""))
    result = world.run("plan", "pot.yaml")
    assert result.code == 0
    assert "cannot run here: oven not installed. Run: pip install 'yolodeploy[oven]'" in result.out
    result = world.deploy()
    assert (result.code, result.error) == (
        4,
        (
            "pot.yaml:10:5: the oven backend cannot run here: oven not installed. "
            "Run: pip install 'yolodeploy[oven]'"
        ),
    )


def test_a_source_that_cannot_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_PROBLEM", "no water. Fetch some.")
    assert "cannot run here: no water. Fetch some." in world.run("plan", "pot.yaml").out
    result = world.deploy()
    assert (result.code, result.error) == (
        4,
        "pot.yaml:2:3: the clay backend cannot run here: no water. Fetch some.",
    )


def _target(world: World) -> Path:
    return next(
        home
        for home in objects(world.cache)
        if json.loads((home / "meta.json").read_text())["step"] == "press"
    )


def _flip(path: Path) -> None:
    path.chmod(0o644)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _rewrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


DAMAGE = {
    "flipped byte": lambda home: _flip(home / "data/weights.bin"),
    "missing file": lambda home: (home / "data/weights.bin").unlink(),
    "added file": lambda home: (home / "data/more").write_text("x"),
    "renamed file": lambda home: (home / "data/weights.bin").rename(home / "data/w.bin"),
    "no data": lambda home: [*map(os.unlink, (home / "data").iterdir()), (home / "data").rmdir()],
    "truncated meta": lambda home: _rewrite(home / "meta.json", '{"id": "a'),
    "empty meta": lambda home: _rewrite(home / "meta.json", ""),
    "other meta": lambda home: _rewrite(home / "meta.json", "[]"),
    "missing meta": lambda home: (home / "meta.json").unlink(),
    "wrong types in meta": lambda home: _rewrite(
        home / "meta.json",
        json.dumps(json.loads((home / "meta.json").read_text()) | {"bytes": "many"}),
    ),
    "meta of another": lambda home: _rewrite(
        home / "meta.json",
        json.dumps(json.loads((home / "meta.json").read_text()) | {"id": "0" * 64}),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_made_again_with_one_warning(deployed: World, damage: str) -> None:
    home = _target(deployed)
    good = {p.relative_to(home): p.read_bytes() for p in (home / "data").rglob("*")}
    DAMAGE[damage](home)
    verify = deployed.run("cache", "verify", "--json")
    assert (verify.code, list(verify.json["damaged"])) == (9, [home.name])
    result = deployed.good()
    warnings = [line for line in result.err.splitlines() if line.startswith("warning")]
    assert warnings == [
        f"warning: stored result {home.name[:12]} (press) is damaged and will be made again"
        if "meta" not in damage
        else f"warning: stored result {home.name[:12]} is damaged and will be made again"
    ]
    assert deployed.log == ["press"]
    assert {p.relative_to(home): p.read_bytes() for p in (home / "data").rglob("*")} == good
    assert deployed.run("cache", "verify").code == 0


def test_damaged_evidence_is_measured_again(deployed: World) -> None:
    home = next(h for h in objects(deployed.cache) if (h / "data/golden").is_dir())
    _flip(home / "data/data.json")
    result = deployed.good()
    assert result.err.count("is damaged") == 1
    assert "measure 6 images" in result.err
    assert deployed.log == []


def test_a_step_that_is_not_reproducible_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:random")
    world.recipe(("\n  - press: {strength: 0.25}", ""))
    world.good()
    before = world.state()
    home = next(h for h in objects(world.cache) if h.name == world.plan().final.id)
    _flip(home / "data/weights.bin")
    result = world.deploy()
    assert result.code == 9
    assert "a step is not reproducible, or the store was changed" in result.error
    assert (
        world.state()[str(world.bundle / "report.json")]
        == before[str(world.bundle / "report.json")]
    )
    locked = world.run("build", "pot.yaml", "--locked")
    assert locked.code == 8
    assert "  steps.export.output: locked " in locked.error
    assert world.run("cache", "prune", "--all").code == 0
    world.good()


@pytest.mark.parametrize("place", ["file", "proc"])
def test_unwritable_cache(world: World, place: str) -> None:
    root = "/proc/self/store" if place == "proc" else str(world.write("occupied", "x"))
    failing = root if place == "proc" else f"{root}/locks"
    result = world.deploy("--cache", root)
    assert result.code == 9
    reason = {"proc": "No such file or directory", "file": "Not a directory"}[place]
    assert result.error == (
        f"{failing}: {reason}. The store must be writable; choose another folder with --cache "
        "or YOLODEPLOY_CACHE."
    )
    assert world.run("plan", "pot.yaml", "--cache", root).code == 0
    assert not world.bundle.exists()


def test_unreadable_cache_of_another_user(deployed: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to act as another user")
    deployed.good()  # imports everything while it may be read
    for path in list(deployed.root.parents)[:-2]:
        path.chmod(0o755)
    deployed.cache.chmod(0o700)
    os.seteuid(65534)
    try:
        result = deployed.deploy()
    finally:
        os.seteuid(0)
    assert (result.code, result.error) == (
        9,
        (
            f"{deployed.cache}/locks: Permission denied. A result that is not in the store yet needs "
            "a store that can be written; choose another folder with --cache or YOLODEPLOY_CACHE."
        ),
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; run as root to test a full disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_cache_disk(world: World, small_disk: Path) -> None:
    world.weights(padding=1_000_000)
    result = world.deploy("--cache", str(small_disk / "c"))
    assert (result.code, result.error) == (
        9,
        (
            f"{small_disk}/c: the disk is full. Free some space, `yolodeploy cache prune`, or choose "
            "another folder with --cache or YOLODEPLOY_CACHE."
        ),
    )
    assert not list((small_disk / "c/tmp").iterdir())
    assert world.run("cache", "verify", "--cache", str(small_disk / "c")).code == 0


def test_full_dist_disk(world: World, small_disk: Path) -> None:
    world.weights(padding=4_000)
    dist = str(small_disk / "dist")
    world.good("--dist", dist)
    before = {p: p.read_bytes() for p in (small_disk / "dist/pot").rglob("*") if p.is_file()}
    world.weights(padding=1_000_000)
    result = world.deploy("--dist", dist)
    assert (result.code, result.error) == (
        4,
        (
            f"{dist}: the bundle cannot be written: the disk is full. An earlier bundle is unchanged. "
            "Choose another folder with --dist, or free some space."
        ),
    )
    assert {
        p: p.read_bytes() for p in (small_disk / "dist/pot").rglob("*") if p.is_file()
    } == before
    assert [p.name for p in (small_disk / "dist").iterdir() if p.is_dir()] == ["pot"]


def test_unwritable_dist(world: World) -> None:
    world.write("occupied", "x")
    result = world.deploy("--dist", "occupied")
    assert (result.code, result.error) == (
        4,
        (
            "occupied: the bundle cannot be written: it is a file, not a folder. An earlier bundle is "
            "unchanged. Choose another folder with --dist, or free some space."
        ),
    )
    assert not world.lock.exists()


def test_cache_show_and_prune(deployed: World) -> None:
    shown = deployed.run("cache").out.splitlines()
    assert len(shown) == 8
    assert shown[-1].startswith("7 results, ")
    assert shown[-1].endswith(f" MB in {deployed.cache}")
    asked = deployed.run("cache", "--all")
    assert asked.code == 2
    assert asked.error == "--all and --days go with `cache prune`, not with `cache show`"
    rows = deployed.run("cache", "show", "--json").json
    assert {row["step"] for row in rows["objects"]} == {"load", "export", "press", "measure"}
    assert deployed.run("cache", "prune").out == "0 results removed, 0.00 MB freed\n"
    killed = deployed.cache / "tmp" / f"{digest_of('x')}.abc" / "scratch"
    killed.mkdir(parents=True)
    (killed / "f").write_bytes(b"x" * 20_000)
    assert deployed.run("cache", "prune").out == "0 results removed, 0.02 MB freed\n"
    assert not killed.exists()
    _flip(_target(deployed) / "data/weights.bin")
    assert deployed.run("cache", "prune", "--json").json["removed"] == 1
    assert deployed.run("cache", "prune", "--days", "0", "--json").json["removed"] == 6
    assert deployed.run("cache").out == f"0 results, 0.00 MB in {deployed.cache}\n"
    deployed.good()
    assert deployed.run("cache", "prune", "--all", "--json").json["removed"] == 7


def test_prune_leaves_what_is_being_made(deployed: World) -> None:
    from filelock import FileLock

    id_ = digest_of("busy")
    work = deployed.cache / "tmp" / f"{id_}.abc"
    work.mkdir(parents=True)
    with FileLock(deployed.cache / "locks" / f"{id_}.lock"):
        deployed.run("cache", "prune")
    assert work.exists()


def test_the_cache_option_wins(world: World, tmp_path: Path) -> None:
    assert world.run("build", "pot.yaml", "--cache", str(tmp_path / "mine")).code == 0
    assert not (world.cache / "objects").exists()
    assert len(objects(tmp_path / "mine")) == 3
