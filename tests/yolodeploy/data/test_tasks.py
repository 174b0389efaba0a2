"""Labels of segment, pose, obb and classification data sets: read as Ultralytics reads them, or refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from test_like_ultralytics import image

from yolodeploy.data import Counts, Dataset, Polygon, load_view
from yolodeploy.data.dataset import survey_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe import View, allowed_paths
from yolodeploy.system import StatCache

HEAD = "train: images/val\nval: images/val\nnames: [a, b]\n"
TWO = "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
POLYGON, CORNERS = "0 .1 .1 .9 .1 .5 .8", "0 .1 .1 .5 .1 .5 .4 .1 .4"
POSE = "0 .5 .5 .4 .4 .4 .4 2 .6 .6 0"
READ = {  # what Ultralytics reads, by task: lines of data.yaml, and files of rows
    "segment": ("", [POLYGON, f"{POLYGON}\n1.0 .5 .1 1.3 .1 .9 .2 .8 .2\n", f"{POLYGON}\n{POLYGON}0\n", "",
                     f"{POLYGON}\n0 .1 .1 .9 .8 .5 .8", "0 .1 .1 .5 .1 .9 .1", "0 .1 -.02 1.02 .1 .5 .8"]),
    "pose": (TWO, [POSE, f"{POSE}\n{POSE}\n1{POSE[1:-1]}1.5", "", "0 .5 .5 0 .4 1.005 -.005 2 .95 .95 1"]),
    "obb": ("", [CORNERS, "1 .1 .1 1.02 .1 .5 .4 .1 .4", "", f"{CORNERS}\n0 .3 .1 .5 .25 .3 .4 .1 .25"]),
    "detect": (TWO, [POSE, f"{POSE[:-1]}1\n{POSE}\n1 .2 .2 .1 .1", "0 .5 .5 .4 .4 9 9 9 9 9 9", POLYGON]),
}  # fmt: skip


def data_set(root: Path, more: str, files: list[str]) -> Path:
    for number, rows in enumerate(files):
        image(root / f"images/val/{number}.jpg", rows)
    (root / "data.yaml").write_text(HEAD + more)
    return root / "data.yaml"


def theirs(file: Path, task: str) -> dict[str, list[list[float]]]:
    """Class, box, and points or keypoints of each object, by image, as Ultralytics' loader gives them."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(file), autodownload=False)
    found = YOLODataset(img_path=data["val"], data=data, task=task, imgsz=64, augment=False, rect=False)  # fmt: skip
    rows = {}
    for label in found.labels:
        shapes = label["segments"] if task in ("segment", "obb") else label["keypoints"]
        count = len(label["cls"])
        more = shapes if task != "detect" and count else [np.zeros(0)] * count
        heads = np.concatenate([label["cls"], label["bboxes"]], axis=1)
        rows[label["im_file"]] = sorted(
            [*head, *np.ravel(shape)] for head, shape in zip(heads, more, strict=True)
        )
    return rows


def ours(view: Dataset, image: Path) -> list[list[float]]:
    more = {"segment": "points", "obb": "points", "pose": "keypoints"}
    rows = []
    for label in view.labels(image):
        box = label.box
        shape = getattr(label, more[view.task]) if view.task in more else ()
        rows.append([label.cls, box.x, box.y, box.width, box.height, *np.ravel(shape)])
    return sorted(rows)


@pytest.mark.parametrize("task", READ)
def test_labels_are_those_of_ultralytics(tmp_path: Path, task: str) -> None:
    file = data_set(tmp_path, *READ[task])
    view, expected = load_view(file, View(), 0, task=task), theirs(file, task)
    assert [str(path) for path in view.images] == sorted(expected)
    for path in view.images:
        mine, rows = ours(view, path), expected[str(path)]
        assert len(mine) == len(rows), path
        for one, other in zip(mine, rows, strict=True):
            assert one == pytest.approx(other, abs=1e-6), path
    assert view.counts.objects == sum(map(len, expected.values()))


def test_keypoints_of_two_numbers_are_visible(tmp_path: Path) -> None:
    file = data_set(tmp_path, "kpt_shape: [2, 2]\n", ["0 .5 .5 .4 .4 0 0 .6 .6"])
    view = load_view(file, View(), 0, task="pose").for_model(("a", "b"), (2, 2))
    (pose,) = view.poses(view.images[0])
    assert pose.keypoints == ((0, 0, 1), (0.6, 0.6, 1))
    with pytest.raises(DataError, match=re.escape("`kpt_shape: [2, 2]` is not what the model has, `kpt_shape: [17, 3]`")):  # fmt: skip
        view.for_model(("a", "b"), (17, 3))


def test_kept_classes_and_one_class(tmp_path: Path) -> None:
    file = data_set(tmp_path, "", [f"{POLYGON}\n1 .1 .1 .2 .1 .2 .2"])
    view = load_view(file, View(), 0, task="segment")
    only = view.only(("b",), ("a", "b"))
    small = ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2))
    assert only.polygons(only.images[0]) == (Polygon(0, small),)
    assert [p.cls for p in view.as_one_class("x").polygons(view.images[0])] == [0, 0]
    cache = StatCache(tmp_path / "cache")
    digests = {load_view(file, View(), 0, task=task).digest(cache) for task in ("detect", "segment")}  # fmt: skip
    assert len({*digests, only.digest(cache)}) == 3


SEGMENT = "a segment row must be `class` and a polygon of three points or more (`class x1 y1 x2 y2 x3 y3 ...`), but here are"
POSES = "a pose row must be `class x y width height` and the keypoints (kpt_shape: [2, 3], 11 numbers), but here are"
OBB = "an obb row must be `class` and four corners (`class x1 y1 x2 y2 x3 y3 x4 y4`, 9 numbers), but here are"
BAD_ROWS = {
    "two points": ("segment", "", "0 .1 .1 .9 .8", f"{SEGMENT} 5 numbers, as of a box or a polygon of two points"),
    "odd": ("segment", "", "0 .1 .1 .9 .1 .5 .8 .3", f"{SEGMENT} 8 numbers"),
    "one point": ("segment", "", "0 .1 .1", f"{SEGMENT} 3 numbers"),
    "pose": ("segment", TWO, POSE, f"{SEGMENT} 11 numbers, as of a pose"),
    "outside": ("segment", "", "0 1.2 .1 1.9 .1 1.5 .8", "`1.2 .1 1.9 .1 1.5 .8` must be fractions of the image, each in 0..1"),
    "class": ("segment", "", "2" + POLYGON[1:], "class 2 is out of range; data.yaml names 2 classes (0..1)"),
    "corners": ("pose", TWO, CORNERS, f"{POSES} 9 numbers, as of a rotated box or a polygon"),
    "box": ("pose", TWO, "0 .5 .5 .4 .4", f"{POSES} 5 numbers, as of a box"),
    "keypoint": ("pose", TWO, "0 .5 .5 .4 .4 1.2 .4 0 .6 .6 2",
                 "`.5 .5 .4 .4 1.2 .4 0 .6 .6 2` must be fractions of the image, each in 0..1, keypoints without a label too"),
    "pixels": ("pose", TWO, "0 32 24 9 9 .4 .4 2 .6 .6 2",
               "`32 24 9 9 .4 .4 2 .6 .6 2` must be fractions of the image, each in 0..1, keypoints without a label too"),
    "visibility": ("pose", TWO, "0 .5 .5 .4 .4 .4 .4 -1 .6 .6 2",
                   "`.5 .5 .4 .4 .4 .4 -1 .6 .6 2` has a negative visibility; write 0 (not labelled), 1 (hidden) or 2 (visible)"),
    "five numbers": ("obb", "", "0 .5 .5 .2 .2", f"{OBB} 5 numbers, as of a box"),
    "angle": ("obb", "", "0 .5 .5 .2 .2 .3", f"{OBB} 6 numbers, as of a box and an angle"),
    "polygon": ("obb", "", POLYGON, f"{OBB} 7 numbers, as of a polygon"),
    "pose of 9": ("obb", "kpt_shape: [2, 2]\n", "0 .5 .5 .4 .4 .4 .4 .6 .6", f"{OBB} 9 numbers, as of a pose"),
    "text": ("obb", "", "1 2 3 4 5 6 7 8 car 0", "`1 2 3 4 5 6 7 8 car 0` must be a row of numbers"),
}  # fmt: skip
GOOD = {"segment": POLYGON, "pose": POSE, "obb": CORNERS}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    task, more, row, message = BAD_ROWS[case]
    monkeypatch.chdir(tmp_path)
    good = GOOD[task] if case != "pose of 9" else ""
    file = data_set(tmp_path, more, [f"{good}\n\n{row}\n"])
    faults = survey_view(file, View(), 0, task=task)[1]
    assert faults[-1].partition(". No row")[0] == f"labels/val/0.txt:3: {message}"


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_a_data_set_of_boxes_is_refused_once(tmp_path: Path, task: str) -> None:
    file = data_set(tmp_path, TWO, ["0 .5 .5 .2 .2\n1 .5 .5 .2 .2", "", "0 .5 .5 .2 .2"])
    with pytest.raises(DataError) as error:
        load_view(file, View(), 0, task=task)
    (line,) = str(error.value).splitlines()
    assert "labels/val/0.txt:1: " in line
    assert line.endswith(
        f"data.yaml fits: this data set is of another task than `{task}`. Use the one that the model was trained with."
    )


KEYPOINTS = {
    "": ":1:1: a pose data set must have `kpt_shape`: the number",
    "kpt_shape: [2, 4]": ":4:1: `kpt_shape: [2, 4]` must be the number of keypoints and the numbers of each, 2 (x, y) or 3",
    "kpt_shape: [0, 3]": ":4:1: `kpt_shape: [0, 3]` must be",
    "kpt_shape: 17": ":4:1: `kpt_shape: 17` must be",
    "kpt_shape: [2.0, 3]": ":4:1: `kpt_shape: [2.0, 3]` must be",
    "kpt_shape: [2, 3]\nflip_idx: [0, 0]": ":5:1: `flip_idx: [0, 0]` must name each keypoint once, 0 to 1",
    "kpt_shape: [2, 3]\nflip_idx: [1]": ":5:1: `flip_idx: [1]` must name each keypoint once",
    "kpt_shape: [2, 3]\nflip_idx: x": ":5:1: `flip_idx: x` must name each keypoint once",
}


@pytest.mark.parametrize("text", KEYPOINTS)
def test_bad_keypoints_of_a_data_set(tmp_path: Path, text: str) -> None:
    file = data_set(tmp_path, text, [POSE])
    with pytest.raises(DataError, match=re.escape(f"data.yaml{KEYPOINTS[text]}")):
        load_view(file, View(), 0, task="pose")


def classes(root: Path, *images: str) -> Path:
    for name in images:
        image(root / name, None)
    return root


def test_class_folders(tmp_path: Path) -> None:
    from ultralytics.data.utils import check_cls_dataset

    root = classes(tmp_path, "train/10/1.jpg", "train/2/1.jpg", "train/B/1.jpg", "train/a/1.jpg",
                   "valid/2/1.jpg", "valid/B/more/1.png", "valid/a/x.webp", "valid/loose.jpg", "valid/a/.hidden.jpg")  # fmt: skip
    (root / "valid/10").mkdir()
    view = load_view(root, View(), 0, task="classify")
    names = check_cls_dataset(str(root))["names"]
    assert view.names == tuple(names.values()) == ("10", "2", "B", "a")
    assert {str(p.relative_to(root)): view.class_of(p) for p in view.images} == {
        "valid/2/1.jpg": 1, "valid/B/more/1.png": 2, "valid/a/x.webp": 3,
    }  # fmt: skip
    assert view.counts == Counts(3, 3, 3, 0, 3, (("hidden", 1), ("outside of class folders", 1)), 0, 4, ("10",))  # fmt: skip
    assert str(view.counts) == (
        "3 images of 4 classes, none of 10; 2 files skipped (1 hidden, 1 outside of class folders)"
    )
    model = view.for_model(("a", "B", "c", "2", "10"))
    assert [model.class_of(path) for path in view.images] == [3, 1, 0]
    kept = model.only(("B", "a"), model.names)
    assert [(p.name, kept.class_of(p)) for p in kept.images] == [("1.png", 0), ("x.webp", 1)]
    assert kept.counts.left_out == 1
    cache = StatCache(tmp_path / "cache")
    before = view.digest(cache)
    (root / "valid/2/1.jpg").rename(root / "valid/10/1.jpg")
    assert load_view(root, View(), 0, task="classify").digest(cache) != before


def test_bad_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(root: Path, split: str = "val", task: str = "classify") -> str:
        with pytest.raises(DataError) as error:
            load_view(root, View(split=split), 0, task=task).for_model(("a", "b"))
        return str(error.value)

    root = classes(tmp_path / "set", "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "test/c/1.jpg")  # fmt: skip
    assert refused(root, "test") == (
        "set/test/c: `c` is no class: set/train has no folder of that name. Rename the folder, or remove it."
    )
    assert (
        refused(root, "vall")
        == "set: there is no folder `vall`, with a folder for each class. Perhaps you meant `val`. Allowed: train, val, test."
    )
    assert refused(root, task="detect") == (
        "set is a folder, as of a classification data set. For the task `detect` name a data.yaml."
    )
    (root / "train/c").mkdir()
    assert refused(root) == (
        "set/val/c: the model has no class `c` (a, b). Remove the folder from every split, or rename it to the class "
        "that is meant."
    )
    with pytest.raises(
        DataError, match=r"^set/val/a: the model has 2 classes `a` \(a, b, a, c\)\. "
    ):
        load_view(root, View(), 0, task="classify").for_model(("a", "b", "a", "c"))
    (root / "val/a/1.jpg").unlink()
    assert refused(root).startswith("set/val: no class folder has images (.avif, ")
    assert refused(classes(tmp_path / "flat", "a/1.jpg", "b/1.jpg")) == (
        "flat: there is no folder `val`, with a folder for each class. Put the class folders into `train` and `val`."
    )
    (tmp_path / "safe/val").mkdir(parents=True)
    (tmp_path / "safe/val/a").symlink_to(tmp_path / "flat/a")
    with pytest.raises(PlanRefused, match=r"^safe/val: the class folder safe/val/a, which leads to .* lies outside"):  # fmt: skip
        load_view(Path("safe"), View(), 0, allowed_paths(Path("safe/recipe.yaml"), ()), "classify")
    image(tmp_path / "flat/val/1.jpg", None)
    assert refused(tmp_path / "flat") == "flat/val: must hold a folder for each class, but has no folder"  # fmt: skip
    assert refused(data_set(tmp_path / "boxes", "", [""])).startswith(
        "boxes/data.yaml must be a folder with a folder for each class below `train`, `val` or `test`"
    )
