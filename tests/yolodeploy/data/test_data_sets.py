"""What people's data sets look like: where images and labels are found, and what is said of the rest."""

from __future__ import annotations

import base64
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_like_ultralytics import HEIC
from world import World

from yolodeploy.data import load_view
from yolodeploy.data.images import read_image
from yolodeploy.data.label_search import missing_labels
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe import View, allowed_paths

HEAD = "pot.yaml:5:3: the data set cannot be used.\n"
NAMES = "names: [red, green, blue]\n"


def check(world: World, *options: str) -> str:
    """The one line of `check`; insists that it is ok."""
    result = world.run("check", "pot.yaml", *options)
    assert result.code == 0, result.err
    return result.err


def failing(world: World, code: int = 6, *options: str) -> str:
    result = world.run("check", "pot.yaml", *options)
    assert result.code == code, result.err
    return result.error.removeprefix(HEAD)


def test_roboflow(world: World) -> None:
    data = world.root / "data"
    for split, folder in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            (data / folder).mkdir(exist_ok=True)
            (data / kind / split).rename(data / folder / kind)
    world.write("data/data.yaml", f"train: ../train/images\nval: ../valid/images\nnc: 3\n{NAMES}")
    before = check(world)
    assert "`val`: 6 images, 6 with a label file" in before
    outside = world.root / "valid/images"  # what Ultralytics reads if it is there
    outside.mkdir(parents=True)
    world.write("data/recipe.yaml", "")
    with pytest.raises(PlanRefused, match=r"valid/images lies outside .* --allow .*valid/images"):
        load_view(data / "data.yaml", View(), 0, allowed_paths(data / "recipe.yaml", ()))


def test_every_place_that_was_tried(world: World) -> None:
    world.write(
        "data/data.yaml", f"path: ../sets/mine\ntrain: images/train\nval: ../valid/images\n{NAMES}"
    )
    above = world.root.parent
    assert failing(world) == (
        "data/data.yaml:3:1: `val: ../valid/images` does not exist. Tried: sets/valid/images, "
        f"sets/mine/valid/images, {above}/sets/valid/images, {above}/sets/mine/valid/images. "
        "Ultralytics also looks in the `datasets_dir` of its settings, which yolodeploy does not read: "
        "write `path:` relative to the data.yaml."
    )


@pytest.mark.parametrize("path", ["data", "sub/data", "."])
def test_a_relative_path(world: World, path: str) -> None:
    """`data` is the folder's own name, `sub/data` lies in the current folder."""
    if path == "sub/data":
        (world.root / "sub/data").mkdir(parents=True)
        for name in ("images", "labels"):
            (world.root / "data" / name).rename(world.root / "sub/data" / name)
    world.write("data/data.yaml", f"path: {path}\ntrain: images/train\nval: images/val\n{NAMES}")
    assert "`val`: 6 images, 6 with a label file" in check(world)


def test_relative_windows_paths(world: World) -> None:
    world.write("data/val.txt", ".\\images\\val\\val000.png\r\nimages\\val\\val002.png\r\n")
    world.write("data/data.yaml", f"train: images\\train\nval: val.txt\n{NAMES}")
    said = check(world)
    assert "`val`: 2 images, 2 with a label file" in said
    assert "`train`: 4 images, 4 with a label file" in said


def test_an_image_listed_twice_is_said(world: World) -> None:
    names = ["val/val000.png", "val/val002.png", "val/val000.png", "val/../val/val000.png"]
    world.write("data/val.txt", "".join(f"./images/{name}\n" for name in names))
    world.write("data/data.yaml", f"train: images/train\nval: [val.txt, val.txt]\n{NAMES}")
    assert "`val`: 2 images, 2 with a label file" in check(world)
    assert "; 6 files skipped (6 listed twice)\n" in check(world)


def test_a_listed_path_through_a_link_keeps_its_meaning(world: World, tmp_path: Path) -> None:
    (world.root / "data/images/val/other").mkdir()
    (world.root / "data/link").symlink_to("images/val/other")
    world.write("data/val.txt", "./link/../val000.png\n")
    world.write("data/data.yaml", f"train: images/train\nval: val.txt\n{NAMES}")
    assert "`val`: 1 images, 0 with a label file" in check(world)


ELSEWHERE = {
    "windows": (
        "val: C:\\Users\\me\\data\\images\\val\n",
        "1:1: `val: C:\\Users\\me\\data\\images\\val` is a path of another machine. Write: `val: ./images/val`",
    ),
    "colab": (
        "val: /content/data/images/val\n",
        "1:1: `val: /content/data/images/val` is a path of another machine. Write: `val: ./images/val`",
    ),
    "path": (
        "path: D:/sets/mine\nval: images/val\n",
        "1:1: `path: D:/sets/mine` is a path of another machine. Write: `path: .`",
    ),
    "windows path and split": (
        "path: C:\\Users\\me\\ds\nval: images\\val\n",
        "1:1: `path: C:\\Users\\me\\ds` is a path of another machine. Write: `path: .`",
    ),
    "path to a folder below": (
        "path: /content/sets/images\nval: val\n",
        "1:1: `path: /content/sets/images` is a path of another machine. Write: `path: ./images`",
    ),
    "path without a match": (
        "path: C:\\Users\\me\\ds\nval: pictures\\val\n",
        "1:1: `path: C:\\Users\\me\\ds` is a path of another machine. Set `path` to the folder here that holds "
        "`pictures/val`, relative to this file.",
    ),
    "below a path that is here": (
        "path: images\nval: /content/x/images/val\n",
        "2:1: `val: /content/x/images/val` is a path of another machine. Write: `val: ./val`",
    ),
    "both": (
        "path: /content/x\nval: /content/x/images/val\n",
        "2:1: `val: /content/x/images/val` is a path of another machine. Write: `path: .` and `val: ./images/val`",
    ),
    "split without a match": (
        "val: /content/x/pictures\n",
        "1:1: `val: /content/x/pictures` is a path of another machine. Set `val` to the place of the images here, "
        "relative to this file.",
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_paths_of_another_machine(world: World, case: str) -> None:
    text, message = ELSEWHERE[case]
    world.write("data/data.yaml", f"{text}train: images/train\n{NAMES}")
    assert failing(world) == f"data/data.yaml:{message}"


def test_a_list_of_another_machine(world: World) -> None:
    lines = ["C:\\Users\\me\\set\\images\\val\\val000.png", "/content/set/images/val/val002.png"]
    world.write("data/val.txt", "\n".join(lines))
    world.write("data/data.yaml", f"train: images/train\nval: val.txt\n{NAMES}")
    first, second = failing(world).splitlines()
    assert first == (
        f"data/val.txt:1: `{lines[0]}` is a path of another machine. Write: ./images/val/val000.png"
    )
    assert second.endswith("another machine. Write: ./images/val/val002.png")


def test_linked_folders(world: World, tmp_path: Path) -> None:
    val, outside = world.root / "data/images/val", tmp_path / "pictures"
    (outside / "inner").mkdir(parents=True)
    (val / "val000.png").rename(outside / "val000.png")
    (val / "val002.png").rename(outside / "inner/val002.png")
    (outside / "inner/notes.txt").touch()
    (val / "more").symlink_to(outside)
    error = failing(world, 3)
    assert f"`val` has the link data/images/val/more to a folder: {outside} lies outside" in error
    assert f"--allow {outside}" in error
    (val / "again").symlink_to(outside)  # counts once
    said = check(world, "--allow", str(outside))
    assert "`val`: 6 images, 4 with a label file" in said
    assert "2 files skipped (2 in a folder that is linked twice)" in said


def test_a_loop_of_links(world: World) -> None:
    (world.root / "data/images/val/up").symlink_to("..")
    error = failing(world)
    assert error.startswith("data/data.yaml:")
    assert (
        "the link data/images/val/up, which leads back to data/images, a folder above it" in error
    )


def test_what_was_skipped_is_counted(world: World) -> None:
    for name in ("._val000.png", ".DS_Store", "a.gif", "b.gif", "bare"):
        world.write(f"data/images/val/{name}", b"\0")
    text = "6 images, 6 with a label file, 0 without objects, 18 objects; 5 files skipped (2 .gif, 2 hidden, 1 without a suffix)"
    assert text in check(world)
    deployed = world.good("--json")
    counts = deployed.json["data"]["evaluation"]
    assert counts["skipped"] == {".gif": 2, "hidden": 2, "without a suffix": 1}
    assert (counts["images"], counts["labelled"], counts["objects"]) == (6, 6, 18)
    assert "skipped: 2 .gif, 2 hidden" in (world.bundle / "report.html").read_text()


def test_heic_without_a_library(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.data.paths.heif_library", lambda: None)
    monkeypatch.setattr("yolodeploy.data.decoding.heif_library", lambda: None)
    world.write("data/images/val/photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert "1 file skipped (1 .heic, which yolodeploy[heif] reads)" in check(world)
    renamed = world.write("data/photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(DataError, match=r"is a HEIC image\. Install the extra yolodeploy\[heif\]"):
        read_image(renamed)


PLACES = {
    "Labels": "data/Labels/val",
    "beside": "data/images/val",
    "flat": "data/labels",
}


@pytest.mark.parametrize("case", PLACES)
def test_labels_elsewhere(world: World, case: str) -> None:
    place = world.root / PLACES[case]
    place.mkdir(parents=True, exist_ok=True)
    for file in sorted((world.root / "data/labels/val").iterdir())[:4]:
        file.rename(place / file.name)
    said = check(world)
    assert "`val`: 6 images, 2 with a label file, 4 without objects" in said
    assert (
        "warning: data/data.yaml, `val`: 4 of 6 images have no label file and count as showing nothing. Looked in "
        f"data/labels/val (which has 2 .txt files of 2). {PLACES[case]} has 4 .txt files with the names of these "
        "images: move them to where they are looked for."
    ) in said


def test_labels_are_not_searched_for_outside(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "annotations"
    (world.root / "data/labels/val").rename(outside)
    (world.root / "data/txt").symlink_to(outside)
    view = load_view(world.root / "data/data.yaml", View(), 0)
    assert "has 6 .txt files with the names of these images" in str(view.missing_labels)
    said = check(world)
    assert "6 of 6 images have no label file" in said
    assert "with the names of these images" not in said
    (world.root / "data/labels/val").symlink_to(outside / "inner")
    (outside / "inner").mkdir()
    assert "data/labels/val (which the recipe may not read)" in check(world)


def test_labels_are_searched_for_once_per_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, calls = tmp_path / "images/val", Counter[str]()
    home.mkdir(parents=True)
    for number in range(300):
        for suffix in (".jpg", ".txt"):
            (home / f"{number}{suffix}").touch()
    for number in range(100):
        (tmp_path / f"labels{number}").mkdir()
    for owner, name in ((os, "scandir"), (os, "listdir"), (os.path, "isfile")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda path, real=real, name=name: calls.update([name]) or real(path)
        )
    said = missing_labels(sorted(home.glob("*.jpg")))
    assert "images/val has 200 .txt files with the names of these images" in str(said)
    assert calls["scandir"] + calls["listdir"] < 10
    assert calls["isfile"] < 200 * 3 * 40


def test_no_labels_at_all(world: World) -> None:
    for file in (world.root / "data/labels").rglob("*.txt"):
        file.unlink()
    (world.root / "data/labels/val").rmdir()
    world.write("data/annotations/val000.xml", "<annotation/>")
    said = check(world)
    assert "data/data.yaml, `val`: 6 of 6 images have no label file" in said
    assert "Looked in data/labels/val (which does not exist)." in said
    assert "data/annotations has 1 .xml files with the names of these images: convert them" in said
    assert world.good("--json").json["data"]["evaluation"]["labelled"] == 0


def test_every_fault_of_a_view_in_one_message(world: World) -> None:
    for number in range(5):
        rows = "0 .5 .5 .1 .1\n" + "9 .5 .5 .1 .1\n" * 5
        world.write(f"data/labels/val/val00{number}.txt", rows)
    lines = failing(world).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("data/labels/val/val000.txt:2: class 9 is out of range")
    assert lines[19].startswith("data/labels/val/val003.txt:6: ")
    assert lines[20] == "and 5 more"


def _broken(folder: Path) -> dict[str, str]:
    """Write images that cannot be decoded; returns the cause of each."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    causes = {}
    for suffix, kind in (
        ("jpg", "JPEG"), ("png", "PNG"), ("webp", "WebP"), ("bmp", "BMP"), ("tif", "TIFF"), ("jp2", "JPEG 2000"),
        ("avif", "AVIF"),
    ):  # fmt: skip
        raw = cv2.imencode(f".{suffix}", pixels)[1].tobytes()
        (folder / f"cut.{suffix}").write_bytes(raw[: len(raw) // 2])
        causes[f"cut.{suffix}"] = f"is truncated: the {kind} file ends too early."
    (folder / "cut.heic").write_bytes(base64.b64decode(HEIC)[:600])
    causes["cut.heic"] = "is truncated: the HEIF file ends too early."
    (folder / "page.jpg").write_text("<!DOCTYPE html>")
    causes["page.jpg"] = "is not an image: it begins with `<!DOCTYPE html>`."
    (folder / "lfs.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    causes["lfs.jpg"] = "is a pointer of Git LFS, not the image. Run `git lfs pull`."
    cv2.imwrite(str(folder / "thin.png"), pixels[:9])
    causes["thin.png"] = "has 64 x 9 pixels; each side must have at least 10."
    (folder / "empty.jpg").write_bytes(b"")
    causes["empty.jpg"] = "the image is empty."
    return causes


def test_check_data_names_every_fault(world: World) -> None:
    causes = _broken(world.root / "data/images/val")
    world.write("data/labels/val/val000.txt", "7 .5 .5 .1 .1\n1 .5 .5\n")
    result = world.run("check", "--data", "pot.yaml", "--json")
    faults = result.json[0]["faults"]
    assert result.code == 6
    for name, cause in causes.items():
        (fault,) = (text for text in faults if f"/{name}: " in text)
        assert cause in fault
    assert len(faults) == len(causes) + 2
    assert f"pot.yaml: {len(faults)} faults in images and labels.\n" in result.error
    assert f"look at {10 + len(causes)} images ..." in result.err
    assert all(fault in result.error for fault in faults)


def test_check_data_of_a_sound_set(world: World) -> None:
    world.recipe(name="two.yaml")
    result = world.run("check", "--data", "pot.yaml", "two.yaml")
    assert (result.code, result.out) == (0, "pot.yaml: ok\ntwo.yaml: ok\n")
    assert result.err.count("look at 10 images ...") == 1


def test_names_without_names(world: World) -> None:
    """`nc` alone: the model's names, in the report as well."""
    world.write("data/data.yaml", "train: images/train\nval: images/val\nnc: 3\n")
    report = world.good("--json").json
    assert [row["name"] for row in report["evidence"]["per_class"]] == ["red", "green", "blue"]
    world.write("data/data.yaml", "train: images/train\nval: images/val\nnc: 4\n")
    assert world.deploy().error.startswith(
        "pot.yaml:5:3: the data set names 4 classes, the model 3"
    )


def test_names_of_another_yaml_version(world: World) -> None:
    world.weights(names=["1126", "True", "off"])
    world.write("data/data.yaml", "train: images/train\nval: images/val\nnames: [02146, on, off]\n")
    world.good()


def test_a_hidden_folder_above_is_no_reason(dataset: Path) -> None:
    home = dataset.parent.rename(dataset.parent.with_name(".hidden"))
    assert len(load_view(home / "data.yaml", View(), 0)) == 6


def test_a_broken_link_is_named(world: World) -> None:
    val = world.root / "data/images/val"
    (val / "self").symlink_to("self")  # no folder, and not an image either
    (val / "lost.jpg").symlink_to("nowhere")
    assert failing(world) == "data/images/val/lost.jpg: cannot be read: No such file or directory"


def test_an_image_that_leads_outside(world: World, tmp_path: Path) -> None:
    val, outside = world.root / "data/images/val", tmp_path / "picture.png"
    (val / "val000.png").rename(outside)
    (val / "val000.png").symlink_to(outside)
    said = f"the image data/images/val/val000.png of `val`, which leads to {outside}, lies outside"
    assert said in failing(world, 3)
