"""Digests and step ids."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import RECIPE, World

from yolodeploy.hosts import LOCAL
from yolodeploy.measure.evidence import evidence_id
from yolodeploy.system.digest import (
    StatCache,
    canonical,
    digest_of,
    file_digest,
    tree_bytes,
    tree_digest,
)


def test_digest_of_is_sha256_of_canonical_json() -> None:
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'.encode()
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        digest_of(float("nan"))


def test_tree_digest_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ["a", "b/c"]), (two, ["b/c", "a"])):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    (two / "a").chmod(0o444)
    os.utime(two / "b/c", (1, 1))
    assert tree_digest(one) == tree_digest(two)
    assert tree_bytes(one) == 4
    (two / "b/c").rename(two / "b/d")
    assert tree_digest(one) != tree_digest(two)


def test_tree_digest_keeps_files_apart(tmp_path: Path) -> None:
    for folder, files in (("x", {"a": "bc", "d": ""}), ("y", {"a": "b", "d": "c"})):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    assert tree_digest(tmp_path / "x") != tree_digest(tmp_path / "y")


def _settled(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_stat_cache_notices_a_rewrite_of_the_same_size_and_mtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, later = tmp_path / "f", time.time_ns() + 10**10
    _settled(file, "old")
    monkeypatch.setattr(time, "time_ns", lambda: later)  # the file has settled
    cache = StatCache(tmp_path / "cache.json")
    assert cache.digest(file) == file_digest(file)
    cache.save()
    again = StatCache(tmp_path / "cache.json")
    monkeypatch.setattr("yolodeploy.system.digest.file_digest", lambda _: "read again")
    assert again.digest(file) != "read again"
    time.sleep(0.02)
    _settled(file, "new")
    assert again.digest(file) == "read again"


def test_stat_cache_does_not_remember_a_young_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    cache = StatCache(tmp_path / "cache.json")
    cache.digest(tmp_path / "f")
    cache.save()
    assert not (tmp_path / "cache.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"/f": 1}', '{"/f": [1, 2]}', '{"/f": [[], {}, 0, 0, 5]}', "\x00"]
)
def test_stat_cache_survives_a_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text("x")
    for head in ("", hashlib.sha256(text.encode()).hexdigest() + "\n"):
        (tmp_path / "cache.json").write_text(head + text)
        cache = StatCache(tmp_path / "cache.json")
        assert cache.digest(tmp_path / "f") == file_digest(tmp_path / "f")
        cache.save()


def _remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file, later = folder / "f", time.time_ns() + 10**10
    file.write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: later)
        cache = StatCache(folder / "cache.json")
        cache.digest(file)
        cache.save()
    return file


def test_a_changed_digest_in_the_stat_cache_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _remembered(tmp_path, monkeypatch)
    right = file_digest(file)
    text = (tmp_path / "cache.json").read_text()
    assert right in text
    (tmp_path / "cache.json").write_text(text.replace(right, "0" * 64))
    assert StatCache(tmp_path / "cache.json").digest(file) == right


@pytest.mark.parametrize("mtime", ["same", "older", "1970", "future"])
def test_the_stat_cache_notices_a_change_whatever_the_mtime_says(
    tmp_path: Path, mtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that went backwards, and tools that set times back (tar, rsync -t, touch -r)."""
    file = _remembered(tmp_path, monkeypatch)
    stat = file.stat()
    time.sleep(0.02)
    file.write_text("y")
    new = {"same": stat.st_mtime_ns, "older": stat.st_mtime_ns - 10**12, "1970": 0}
    os.utime(file, ns=(0, new.get(mtime, stat.st_mtime_ns + 10**15)))
    assert StatCache(tmp_path / "cache.json").digest(file) == file_digest(file)


def test_the_stat_cache_does_not_remember_a_file_of_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("x")
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)  # 2001: the clock went back
    cache = StatCache(tmp_path / "cache.json")
    cache.digest(tmp_path / "f")
    cache.save()
    assert not (tmp_path / "cache.json").exists()


def test_stat_cache_without_a_writable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _settled(tmp_path / "f", "x")
    cache = StatCache(tmp_path / "file" / "cache.json")
    cache.digest(tmp_path / "f")
    cache.save()


CHANGES = {
    "weights": lambda w: w.weights(padding=8),
    "imgsz": lambda w: w.recipe(("imgsz: 64", "imgsz: 96")),
    "step seed": lambda w: w.recipe(extra="seed: 1\n"),
    "device": lambda w: w.recipe(("kiln-a", "kiln-b")),
    "os": lambda w: w.recipe(("kiln-a", '{device: kiln-a, os: "4"}')),
    "parameter": lambda w: w.recipe(("0.25", "0.5")),
    "earlier parameter": lambda w: w.recipe(("fp16", "fp32")),
    "calibration data": lambda w: w.write("data/labels/train/train000.txt", ""),
    "calibration view": lambda w: w.recipe(("{split: train}", "{split: train, images: 2}")),
    "tool version": lambda w: os.environ.update(KILN_VERSION="3"),
    "loader version": lambda w: os.environ.update(CLAY_VERSION="3"),
}
SAME = {
    "name": lambda w: w.recipe(extra="name: jug\n"),
    "checks": lambda w: w.recipe(extra="checks: {size_mb: 9}\n"),
    "evaluation data": lambda w: w.write("data/labels/val/val000.txt", ""),
    "comment": lambda w: w.recipe(extra="# nothing\n"),
    "default written out": lambda w: w.recipe(("0.25}", "0.25, method: flat}")),
    "split not used": lambda w: w.write("data/images/test/x.png", "x"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_ingredient_changes_the_id(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_VERSION", "2.0")
    monkeypatch.setenv("CLAY_VERSION", "1.0")
    before = world.plan()
    CHANGES[what](world)
    after = world.plan()
    assert after.final.id != before.final.id
    assert evidence_id(after, LOCAL) != evidence_id(before, LOCAL)


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_matter_does_not(world: World, what: str) -> None:
    before = world.plan()
    SAME[what](world)
    after = world.plan()
    assert [s.id for s in after.steps] == [s.id for s in before.steps]
    assert (evidence_id(after, LOCAL) != evidence_id(before, LOCAL)) == (what == "evaluation data")


def test_device_does_not_change_the_source_steps(world: World) -> None:
    before = world.plan()
    world.recipe(("kiln-a", "kiln-b"))
    assert world.plan().steps[0].id == before.steps[0].id


def test_golden_id(world: World) -> None:
    """Fails if the ids of all users' stored results change."""
    world.write("model.clay", json.dumps({"names": ["red", "green", "blue"]}))
    world.recipe(("  calibration: {split: train}\n", ""), ("\n  - press: {strength: 0.25}", ""))
    plan = world.plan()
    assert [step.id for step in plan.steps] == GOLDEN_IDS


GOLDEN_IDS = [
    "cedd6c1405e1abc2f299661378b6a5a55c205b5bd05a72e81bf8e848d5f68769",
    "2234adf948d7b72ac61b162395fa560eba9a39bafaca947970634c33f48feae9",
]

_PRINT = """
import sys, pathlib
from yolodeploy.planning import plan_recipe
from yolodeploy.store import Store
plan = plan_recipe(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
print([step.id for step in plan.steps])
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_ids_do_not_depend_on_hash_seed_folder_time_zone_or_key_order(
    world: World, tmp_path: Path, seed: str
) -> None:
    blocks = RECIPE.replace("target: kiln-a\n", "")
    world.write("pot.yaml", "target: kiln-a\n" + blocks)
    expected = str([step.id for step in world.plan().steps])
    env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    command = [sys.executable, "-c", _PRINT, str(world.root / "pot.yaml"), str(tmp_path / "s")]
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
