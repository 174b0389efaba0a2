"""Data sets: what is refused, with which message, and what the views and digests depend on."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from world import World

from yolodeploy.data.dataset import load_view
from yolodeploy.errors import DataError
from yolodeploy.recipe.fields import View
from yolodeploy.system.digest import StatCache

HEAD = "pot.yaml:5:3: the data set cannot be used.\n"
NAMES = "names: [red, green, blue]\n"
LABEL = "data/labels/val/val000.txt"

ROWS = {
    "word": ("red 0.5 0.5 0.1 0.1", "`red 0.5 0.5 0.1 0.1` must be a row of numbers"),
    "count": (
        "0 0.5 0.5 0.1",
        "a row must be `class x y width height` or `class` and a polygon, but here are 4 numbers",
    ),
    "odd polygon": (
        "0 0.5 0.5 0.1 0.1 0.2 0.2 0.3",
        "a row must be `class x y width height` or `class` and a polygon, but here are 8 numbers",
    ),
    "class": (
        "3 0.5 0.5 0.1 0.1",
        "class 3 is out of range; data.yaml names 3 classes (0..2)",
    ),
    "negative class": (
        "-1 0.5 0.5 0.1 0.1",
        "class -1 is out of range; data.yaml names 3 classes (0..2)",
    ),
    "half class": (
        "0.5 0.5 0.5 0.1 0.1",
        "class 0.5 is out of range; data.yaml names 3 classes (0..2)",
    ),
    "nan class": ("nan 0.5 0.5 0.1 0.1", "`nan 0.5 0.5 0.1 0.1` must be a row of numbers"),
    "infinite class": ("inf 0.5 0.5 0.1 0.1", "`inf 0.5 0.5 0.1 0.1` must be a row of numbers"),
    "nan": ("0 nan 0.5 0.1 0.1", "`0 nan 0.5 0.1 0.1` must be a row of numbers"),
    "pixels": (
        "0 32 24 10 10",
        "`32 24 10 10` must be fractions of the image, each in 0..1",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_bad_label_rows(world: World, case: str) -> None:
    row, message = ROWS[case]
    world.write(LABEL, f"0 0.5 0.5 0.1 0.1\n\n{row}\n")
    result = world.deploy()
    assert (result.code, result.error) == (6, f"{HEAD}{LABEL}:3: {message}")


YAMLS = {
    "no names": (
        "val: images/val\n",
        "data/data.yaml:1:1: `names` must list the class names, numbered from 0",
    ),
    "names with a gap": (
        "val: images/val\nnames: {0: a, 2: b}\n",
        "data/data.yaml:2:1: `names` must list the class names, numbered from 0: 1 is missing",
    ),
    "names with a larger gap": (
        "val: images/val\nnames: {0: a, 1: b, 2: c, 5: d, 9: e}\n",
        "data/data.yaml:2:1: `names` must list the class names, numbered from 0: 3 and others are missing",
    ),
    "names from a negative number": (
        "val: images/val\nnames: {-1: a, 0: b}\n",
        "data/data.yaml:2:1: `names` must list the class names, numbered from 0",
    ),
    "not a mapping": (
        "- a\n",
        "data/data.yaml:1:1: `names` must list the class names, numbered from 0",
    ),
    "empty": ("", "data/data.yaml:1:1: `names` must list the class names, numbered from 0"),
    "no such split": (
        NAMES + "train: images/train\n",
        "data/data.yaml:1:1: there is no split `val`. Allowed: train.",
    ),
    "folder missing": (
        NAMES + "val: images/no\n",
        "data/data.yaml:2:1: `val: images/no` does not exist. Tried: data/images/no.",
    ),
    "no images": (
        NAMES + "val: labels/val\n",
        (
            "data/data.yaml:2:1: `val` has no images (.avif, .bmp, .dng, .heic, .heif, .jp2, .jpeg, .jpg, .mpo, .png, .tif, .tiff, .webp)"
        ),
    ),
    "broken": (
        NAMES + "val: [\n",
        "data/data.yaml:3:1: not valid YAML: did not find expected node content",
    ),
    "list not text": (
        NAMES + "val: binary.txt\n",
        "data/data.yaml:2:1: `val` names data/binary.txt, which is not a text file of image paths",
    ),
    "list names a missing image": (
        NAMES + "val: list.txt\n",
        "data/images/val/no.png: cannot be read: No such file or directory",
    ),
    "list names another file": (
        NAMES + "val: other.txt\n",
        (
            "data/data.yaml:2:1: `val` has no images (.avif, .bmp, .dng, .heic, .heif, .jp2, .jpeg, .jpg, .mpo, .png, .tif, .tiff, .webp); 1 file skipped (1 .txt)"
        ),
    ),
}


@pytest.mark.parametrize("case", YAMLS)
def test_bad_data_yaml(world: World, case: str) -> None:
    text, message = YAMLS[case]
    world.write("data/data.yaml", text)
    world.write("data/binary.txt", b"\xff\xfe\x00")
    world.write("data/list.txt", "./images/val/val000.png\n./images/val/no.png\n")
    world.write("data/other.txt", "./labels/val/val000.txt\n")
    world.recipe(("  calibration: {split: train}\n", ""), ("\n  - press: {strength: 0.25}", ""))
    result = world.deploy()
    assert (result.code, result.error) == (6, HEAD + message)


def test_empty_image(world: World) -> None:
    world.write("data/images/val/val002.png", "")
    result = world.deploy()
    assert (result.code, result.error) == (
        6,
        f"{HEAD}data/images/val/val002.png: the image is empty. Remove it or restore the file.",
    )


@pytest.mark.parametrize("split", ["val", "train"])
def test_corrupt_image(world: World, split: str) -> None:
    name = f"data/images/{split}/{split}002.png"
    world.write(name, b"\x89PNG\r\n\x1a\n" + b"no pixels" * 20)
    result = world.deploy()
    at = "pot.yaml:11:5: " if split == "train" else ""
    assert (result.code, result.error) == (
        6,
        f"{at}{name}: is a damaged PNG file, which cannot be decoded. Restore it, or remove it from the split.",
    )
    assert not world.bundle.exists()
    assert not world.leftovers()


CLASSES = {
    "order": (
        "[green, red, blue]",
        "class 0 is `green` in the data set but `red` in the model.",
    ),
    "fewer": ("[red]", "the data set names 1 class, the model 3 (red, green, blue)."),
    "more": (
        "[red, green, blue, pink]",
        "the data set names 4 classes, the model 3 (red, green, blue).",
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_other_class_names(world: World, case: str) -> None:
    names, message = CLASSES[case]
    world.write("data/data.yaml", f"val: images/val\ntrain: images/train\nnames: {names}\n")
    if case == "fewer":
        for label in (world.root / "data/labels").rglob("*.txt"):
            label.unlink()
    result = world.deploy()
    assert result.code == 6
    assert result.error == (
        f"pot.yaml:5:3: {message} Use the data.yaml that the model was trained with."
    )


def test_an_image_counts_once(dataset: Path) -> None:
    text = dataset.read_text().replace("val: images/val", "val: [images/val, images/val]")
    dataset.write_text(text)
    assert len(load_view(dataset, View(), 0)) == 6


def test_an_image_too_large_to_hold(tmp_path: Path) -> None:
    """17,000 x 17,000 pixels: 35 KB of PNG, 867 MB of memory."""
    rows = zlib.compress(b"".join(b"\0" * (17000 // 8 + 1) for _ in range(17000)))
    header = struct.pack(">IIBBBBB", 17000, 17000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    script = "import sys, pathlib; from yolodeploy.data.images import read_image as r; r(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(bomb)]  # OpenCV reads the limit when it is loaded
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DataError" in done.stderr
    assert "has 17000 x 17000 pixels; at most 67 million are decoded" in done.stderr


def test_labels_label_file_rules(dataset: Path) -> None:
    folder = dataset.parent
    label = folder / "labels/val/val000.txt"
    label.write_text("1 0.1 0.1 0.5 0.1 0.5 0.3\n0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n")
    view = load_view(dataset, View(), 0)
    polygon, box = view.boxes(view.images[0])
    assert (polygon.cls, box.cls) == (1, 0)
    assert (polygon.x, polygon.y) == pytest.approx((0.3, 0.2))
    assert (polygon.width, polygon.height) == pytest.approx((0.4, 0.2))
    label.unlink()
    assert view.boxes(view.images[0]) == ()


def test_images_behind_symlinks_keep_their_labels(dataset: Path) -> None:
    image = dataset.parent / "images/val/val000.png"
    image.rename(dataset.parent / "blob")
    image.symlink_to(dataset.parent / "blob")
    view = load_view(dataset, View(), 0)
    assert len(view.boxes(view.images[0])) == 3


def test_symlinked_folder(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(dataset.parent)
    view = load_view(tmp_path / "elsewhere" / "data.yaml", View(), 0)
    assert len(view) == 6
    assert view.labelled


def test_selection_depends_on_names_and_seed_alone(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.parent, tmp_path / "other" / "place")
    other = tmp_path / "other" / "place" / "data.yaml"
    (other.parent / "images/val/val000.png").rename(tmp_path / "x")
    (tmp_path / "x").rename(other.parent / "images/val/val000.png")  # another listing order
    chosen = [
        [image.name for image in load_view(file, View(images=3), seed).images]
        for file, seed in ((dataset, 0), (other, 0), (dataset, 1))
    ]
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert chosen[0] != chosen[2]


def test_equal_names_in_two_folders_have_a_fixed_order(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = dataset.parent / "images/val"
    for number, folder in enumerate(("a", "b")):
        (val / folder).mkdir()
        (val / f"val00{2 * number}.png").rename(val / folder / "same.png")
    scan = os.scandir
    first = load_view(dataset, View(), 0).images
    monkeypatch.setattr(os, "scandir", lambda top: reversed(list(scan(top))))
    assert load_view(dataset, View(), 0).images == first
    assert [image.parent.name for image in first if image.name == "same.png"] == ["a", "b"]


def test_list_file_and_split_of_several_folders(dataset: Path) -> None:
    folder = dataset.parent
    (folder / "list.txt").write_text("./images/val/val002.png\n\nimages/val/val000.png\n")
    dataset.write_text(f"val: list.txt\ntrain: [images/train, images/val]\n{NAMES}")
    assert [i.name for i in load_view(dataset, View(), 0).images] == ["val000.png", "val002.png"]
    assert len(load_view(dataset, View(split="train"), 0)) == 10


def test_a_name_that_is_not_unicode(dataset: Path, tmp_path: Path) -> None:
    image = dataset.parent / "images/val/val000.png"
    image.rename(image.with_name(os.fsdecode(b"caf\xe9.png")))
    view = load_view(dataset, View(images=5), 0)
    assert len(view.digest(StatCache(tmp_path / "c"))) == 64


@pytest.mark.parametrize("what", ["image", "label", "name", "added", "removed label"])
def test_digest_notices(dataset: Path, tmp_path: Path, what: str) -> None:
    cache = StatCache(tmp_path / "c")
    before = load_view(dataset, View(), 0).digest(cache)
    assert load_view(dataset, View(), 0).digest(StatCache(tmp_path / "d")) == before
    image, label = (
        dataset.parent / f"{kind}/val/val000.{end}"
        for kind, end in (("images", "png"), ("labels", "txt"))
    )
    match what:
        case "image":
            image.write_bytes((image.parent / "val002.png").read_bytes())
        case "label":
            label.write_text("0 0.5 0.5 0.1 0.1\n")
        case "name":
            image.rename(image.with_name("val00x.png"))
        case "added":
            shutil.copy(image, image.with_name("new.png"))
        case "removed label":
            label.unlink()
    assert load_view(dataset, View(), 0).digest(cache) != before


def test_unreadable_label(dataset: Path) -> None:
    (dataset.parent / "labels/val/val000.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        DataError, match=r"val000\.txt: cannot be read as a label file: not UTF-8 text"
    ):
        load_view(dataset, View(), 0)


def test_parts_have_no_image_in_common_and_are_the_view_together(world: World) -> None:
    def images(view: View, seed: int = 0) -> list[str]:
        return [image.name for image in load_view(Path("data/data.yaml"), view, seed).images]

    whole = images(View())
    halves = images(View(part="1/2")), images(View(part="2/2"))
    assert sorted([*halves[0], *halves[1]]) == whole
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    assert images(View(part="1/2"), seed=1) != halves[0]  # drawn, not cut by name
    some = images(View(images=4))
    assert (
        sorted([*images(View(images=2, part="1/2")), *images(View(images=2, part="2/2"))]) == some
    )
    count = len(halves[0])
    with pytest.raises(
        DataError,
        match=rf"asks for 99 images of part 1/2 of `val`, which has {count}\. Ask for fewer",
    ):
        images(View(images=99, part="1/2"))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ('"3/2"', '`part: "3/2"` must lie between "1/2" and "2/2".'),
        ('"0/2"', '`part: "0/2"` must lie between "1/2" and "2/2".'),
        ("half", '`data.evaluation.part: half` must be a part of so many, such as "1/2".'),
    ],
)
def test_a_part_that_there_is_not(world: World, part: str, message: str) -> None:
    world.recipe(("{split: val}", f"{{split: val, part: {part}}}"))
    result = world.run("plan", "pot.yaml")
    assert (result.code, result.error) == (2, f"pot.yaml:6:28: {message}")
