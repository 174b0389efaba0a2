"""A recipe may read and write only in its project and the store, unless the command line allows more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

from yolodeploy.recipe.allowed_paths import allowed_paths

OUTSIDE = "lies outside the recipe's project"


@pytest.fixture
def other(tmp_path: Path, dataset_in: Callable[..., Path]) -> Path:
    """A folder outside, with weights, data and a recipe."""
    folder = tmp_path / "other place"
    dataset_in(folder / "data")
    (folder / "base.yaml").write_text("target: kiln-a\n", encoding="utf-8")
    return folder


def refused(world: World, *said: str) -> str:
    result = world.run("check", "pot.yaml")
    assert result.code == 3, result.err
    for part in (OUTSIDE, *said):
        assert part in result.error
    return result.error


def allowed(world: World, *paths: Path | str) -> None:
    options = [option for path in paths for option in ("--allow", str(path))]
    result = world.run("check", "pot.yaml", *options)
    assert result.code == 0, result.err


@pytest.mark.parametrize("relative", [False, True])
def test_weights_elsewhere(world: World, other: Path, relative: bool) -> None:
    shutil.move(world.root / "model.clay", other / "model.clay")
    path = os.path.relpath(other / "model.clay", world.root) if relative else other / "model.clay"
    world.recipe(("model.clay", f'"{path}"'))
    error = refused(world, "pot.yaml:2:3: the weights file", f"--allow '{other}'")
    assert len(error.splitlines()) == 1
    allowed(world, other)
    allowed(world, other / "model.clay")
    world.good("--allow", str(other))


def test_data_elsewhere(world: World, other: Path) -> None:
    world.recipe(("data/data.yaml", f'"{other}/data/data.yaml"'))
    refused(world, "pot.yaml:5:3: the data set", f"--allow '{other}/data'")
    allowed(world, other)


@pytest.mark.parametrize(
    "change",
    [
        ("train: images/train\n", "path: {other}/data\ntrain: images/train\n"),
        ("val: images/val\n", "val: {other}/data/images/val\n"),
        ("val: images/val\n", "val: ../../other place/data/images/val\n"),
        ("val: images/val\n", "val: [images/val, '{other}/data/images/val']\n"),
    ],
    ids=["path", "absolute", "upwards", "second"],
)
def test_images_elsewhere(world: World, other: Path, change: tuple[str, str]) -> None:
    old, new = change
    text = (world.root / "data/data.yaml").read_text()
    world.write("data/data.yaml", text.replace(old, new.format(other=other)))
    refused(world, "data/data.yaml:", "`val`: ", "--allow '")
    if "[" not in new:
        allowed(world, other)


def test_list_of_images_elsewhere(world: World, other: Path) -> None:
    image = other / "data/images/val/val000.png"
    world.write("data/val.txt", f"{image}\n")
    text = (world.root / "data/data.yaml").read_text().replace("images/val", "val.txt")
    world.write("data/data.yaml", text)
    refused(world, f"the image {image} of `val` lies outside")
    allowed(world, other)


@pytest.mark.parametrize("name", ["images/val/val000.png", "labels/val/val000.txt"])
def test_link_to_a_file_elsewhere(world: World, other: Path, name: str) -> None:
    link = world.root / "data" / name
    link.unlink()
    link.symlink_to(other / "data" / name)
    refused(world, f"which leads to {other / 'data' / name},")
    allowed(world, other)


def test_link_to_a_folder_elsewhere(world: World, other: Path) -> None:
    shutil.rmtree(world.root / "data/images/val")
    (world.root / "data/images/val").symlink_to(other / "data/images/val")
    refused(world, f"which leads to {other / 'data/images/val'},")
    allowed(world, other)


def test_link_to_weights_elsewhere(world: World, other: Path) -> None:
    shutil.move(world.root / "model.clay", other / "model.clay")
    (world.root / "model.clay").symlink_to(other / "model.clay")
    refused(world, f"which leads to {other / 'model.clay'},")
    allowed(world, other)


def test_extended_recipe_elsewhere_is_not_even_read(world: World, other: Path) -> None:
    (other / "base.yaml").write_text("secret\n", encoding="utf-8")
    world.write("pot.yaml", f'extends: "{other}/base.yaml"\n')
    error = refused(world, "pot.yaml:1:1: the extended recipe")
    assert "secret" not in error


def test_every_command_takes_what_is_allowed(world: World, other: Path) -> None:
    world.recipe(("data/data.yaml", f'"{other}/data/data.yaml"'))
    for command in ("check", "plan", "build", "deploy"):
        assert world.run(command, "pot.yaml").code == 3
        assert world.run(command, "pot.yaml", "--allow", str(other)).code == 0


def test_ids_and_locks_do_not_depend_on_what_is_allowed(world: World, other: Path) -> None:
    world.good()
    before = world.lock.read_bytes()
    world.good("--allow", str(other))
    assert world.lock.read_bytes() == before


def test_nothing_in_a_recipe_is_expanded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", str(world.root))
    for path in ("~/model.clay", "$PLACE/model.clay", "${PLACE}/model.clay", "%PLACE%/model.clay"):
        world.recipe(("model.clay", f'"{path}"'))
        result = world.run("check", "pot.yaml")
        assert result.code == 5, result.err
        assert f"{path} does not exist" in result.error


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".x", "..", "a b", "x~", "\\u00e9"])
def test_name_cannot_leave_dist(world: World, name: str) -> None:
    world.recipe(extra=f'name: "{name}"\n')
    result = world.run("deploy", "pot.yaml")
    assert result.code == 2, result.err
    assert "must be lower-case letters" in result.error


def test_dist_that_is_a_link_elsewhere(world: World, other: Path) -> None:
    (world.root / "dist").symlink_to(other)
    result = world.deploy()
    assert result.code == 4
    assert f"dist is a link to {other}. To write there, add: --dist '{other}'" in result.error
    assert not (other / "pot").exists()
    world.good("--dist", str(other))
    assert (other / "pot" / "manifest.json").is_file()


def test_links_where_files_are_written_are_not_followed(world: World, other: Path) -> None:
    keep = other / "keep.txt"
    keep.write_text("keep", encoding="utf-8")
    (world.root / "dist").mkdir()
    for link in (f".pot.lock.{os.getpid()}", "dist/.pot.lock", "dist/.pot~x"):
        (world.root / link).symlink_to(keep)
    world.good()
    assert keep.read_text(encoding="utf-8") == "keep"


@pytest.mark.parametrize(
    "name", ["data/data.yaml", "data/images/val/val000.png", "data/labels/val/val000.txt"]
)
def test_pipes_are_refused_rather_than_read(world: World, name: str) -> None:
    (world.root / name).unlink()
    os.mkfifo(world.root / name)
    result = world.run("check", "pot.yaml")
    assert result.code == 6
    assert f"{name}: cannot be read" in result.error


def test_project_is_the_nearest_marked_folder_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    folder = home / "repo" / "recipes"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (home / ".git").mkdir()
    assert allowed_paths(folder / "a.yaml", []).project == folder
    (home / "repo" / ".git").write_text("gitdir: elsewhere\n", encoding="utf-8")
    assert allowed_paths(folder / "a.yaml", []).project == home / "repo"
    (home / "repo" / ".git").unlink()
    (home / "repo" / "pyproject.toml").touch()
    assert allowed_paths(folder / "a.yaml", []).project == home / "repo"
