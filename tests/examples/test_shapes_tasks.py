"""The labels of segment, pose, obb and classify say what the images of the shapes task show."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import generate
import numpy as np
import outlines
import pytest
from outlines import Thing

from yolodeploy.data.dataset import load_view
from yolodeploy.recipe import View

SHAPES = Path(__file__).parents[2] / "examples" / "shapes"
LABELLED = ("segment", "pose", "obb")
DIGESTS = {
    "detect": "3d160e74da885eac",
    "segment": "0f69dbfc06523c2e",
    "pose": "de86d9537936787f",
    "obb": "74b0a0ec75bfda47",
    "classify": "ebf320c2fd5c7dce",
}
TURNS = (0.0, 0.3, 1.9, 4.4)


def drawn(thing: Thing, size: int = 160) -> np.ndarray:
    return generate.inside(np.random.default_rng(0), thing, size) > 0  # type: ignore[no-any-return]


def things(stretch: float = 1.0) -> list[Thing]:
    """Every class in several directions, in the middle of the image and at its edge."""
    places = [(80.0, 70.0), (12.0, 150.0)] if stretch == 1 else [(80.0, 70.0)]
    return [
        Thing(kind, x, y, 30.0, turn, stretch)
        for kind in range(len(generate.NAMES))
        for turn in TURNS
        for x, y in places
    ]


def area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def digest(folder: Path) -> str:
    """Of the names and contents of a data set's files, but for caches that others leave."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".jpg", ".txt", ".yaml"}:
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize("task", ["detect", *LABELLED, "classify"])
def test_committed_files_are_those_that_were_measured(task: str) -> None:
    folder = SHAPES / ("data" if task == "detect" else f"data-{task}")
    assert digest(folder) == DIGESTS[task]


@pytest.mark.parametrize("task", LABELLED)
@pytest.mark.parametrize(("split", "index"), [("train", 0), ("train", 63), ("val", 42)])
def test_the_generator_reproduces_the_committed_labels(task: str, split: str, index: int) -> None:
    sample = generate.draw(split, index, stretched=task == "obb")
    file = SHAPES / f"data-{task}" / "labels" / split / f"{index:05d}.txt"
    assert generate.label_text(sample, task) == file.read_text()
    assert generate.data_yaml(task) == (SHAPES / f"data-{task}" / "data.yaml").read_text()
    image = SHAPES / f"data-{task}" / "images" / split / f"{index:05d}.jpg"
    fresh = generate.from_jpeg(generate.to_jpeg(sample.image)).astype(float)
    assert np.abs(fresh - generate.from_jpeg(image.read_bytes())).mean() < 1.0


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_the_images_of_detect_segment_and_pose_are_the_same(task: str) -> None:
    for path in sorted((SHAPES / "data" / "images").rglob("*.jpg")):
        other = SHAPES / f"data-{task}" / "images" / path.parent.name / path.name
        assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
@pytest.mark.parametrize(
    ("split", "images", "objects"), [("train", 64, 244), ("val", 200, 693)], ids=["train", "val"]
)
def test_yolodeploy_reads_what_is_committed(
    task: str, split: str, images: int, objects: int
) -> None:
    folder = SHAPES / f"data-{task}"
    place = folder if task == "classify" else folder / "data.yaml"
    found = load_view(place, View(split=split), 0, task=task)
    assert found.names == generate.names_of(task)
    if task == "classify":
        assert found.counts.images == {"train": 179, "val": 496}[split]
        assert not found.counts.empty
        return
    assert found.counts.images == images
    assert abs(found.counts.objects - objects) < 4
    assert (found.keypoints is not None) == (task == "pose")
    if found.keypoints:
        assert found.keypoints.shape == (4, 3)
        assert found.keypoints.flip == outlines.FLIP


@pytest.mark.parametrize("stretch", [1.0, 2.2])
def test_an_outline_is_that_of_the_pixels(stretch: float) -> None:
    for thing in things(stretch)[::3]:
        points = outlines.clip(outlines.outline(thing), 160)
        pixels = drawn(thing)
        assert points.min() >= 0
        assert points.max() <= 160
        assert area(points) == pytest.approx(pixels.sum(), rel=0.02), thing
        contour = np.float32(points).reshape(-1, 1, 2)
        for row, column in np.ndindex(160, 160):
            depth = cv2.pointPolygonTest(contour, (column + 0.5, row + 0.5), measureDist=True)
            assert (depth > 0) == pixels[row, column] or abs(depth) < 0.2, thing


def test_keypoints_are_corners_where_the_pixels_end() -> None:
    nothing = np.zeros((160, 160), bool)
    for thing in things()[::2]:  # those in the middle
        found = generate.keypoints(thing, nothing)
        if thing.kind:
            corners = outlines.outline(thing)
            distance = np.linalg.norm(found[:, None, :2] - corners, axis=2).min(1)
            assert distance.max() < 1e-9, thing
        assert found[:, 2].tolist() == [outlines.VISIBLE] * 4
        rows, columns = np.nonzero(drawn(thing))
        ends = (rows.min(), columns.max() + 1, rows.max() + 1, columns.min())
        sides = (found[0, 1], found[1, 0], found[2, 1], found[3, 0])
        assert np.abs(np.subtract(ends, sides)).max() < 1.5, thing


def test_what_can_be_seen_of_a_keypoint(monkeypatch: pytest.MonkeyPatch) -> None:
    under, over = Thing(0, 20.0, 80.0, 30.0, 0.0), Thing(2, 50.0, 80.0, 12.0, 0.4)
    monkeypatch.setattr(generate, "scatter", lambda *_: [under, over])
    top, right, bottom, left = np.rint(generate.draw("val", 0).keypoints[0])
    assert top.tolist() == [20, 50, outlines.VISIBLE]
    assert right.tolist() == [50, 80, outlines.HIDDEN]
    assert bottom.tolist() == [20, 110, outlines.VISIBLE]
    assert left.tolist() == [0, 0, outlines.OUTSIDE]
    monkeypatch.setattr(generate, "scatter", lambda *_: [over, under])
    assert generate.draw("val", 0).keypoints[1][1, 2] == outlines.VISIBLE


def test_a_rotated_box_touches_the_outline_on_every_side() -> None:
    for thing in things(1.7):
        box, points = outlines.rotated_box(thing), outlines.outline(thing)
        sides = np.roll(box, -1, 0) - box
        assert np.abs((sides * np.roll(sides, -1, 0)).sum(1)).max() < 1e-9
        normals = np.stack([-sides[:, 1], sides[:, 0]], 1) / np.linalg.norm(sides, axis=1)[:, None]
        inside = ((points[:, None] - box) * normals).sum(2)  # [points, sides], pixels
        assert np.abs(inside.min(0)).max() < 1e-9, thing
        long, short = np.linalg.norm(sides[0]), np.linalg.norm(sides[1])
        assert long > 1.2 * short
        assert abs(np.sin(np.arctan2(sides[0, 1], sides[0, 0]) - thing.axis)) < 1e-9


def test_the_task_obb_has_whole_objects_in_all_directions() -> None:
    found = [thing for i in range(30) for thing in generate.draw("val", i, stretched=True).things]
    boxes = np.array([outlines.rotated_box(thing) for thing in found])
    assert boxes.min() >= 0
    assert boxes.max() <= 160
    turns = np.array([thing.axis % np.pi for thing in found])
    assert np.histogram(turns, bins=6, range=(0, np.pi))[0].min() >= 8


def test_a_crop_shows_its_object_and_little_else() -> None:
    sample = generate.draw("val", 0)
    found = generate.crops(sample)
    assert 0 < len(found) <= len(sample.things)
    assert all(image.shape == (64, 64, 3) for _, image in found)
    committed = sorted((SHAPES / "data-classify" / "val").glob("*/00000-*.jpg"))
    assert sorted(path.parent.name for path in committed) == sorted(name for name, _ in found)
    for number, (name, image) in enumerate(found):
        path = SHAPES / "data-classify" / "val" / name / f"00000-{number}.jpg"
        kept = generate.from_jpeg(path.read_bytes()).astype(float)
        assert np.abs(kept - generate.from_jpeg(generate.to_jpeg(image))).mean() < 1.0


def test_no_crop_of_an_object_that_is_cut_off_or_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut_off = Thing(2, 80.0, 80.0, 20.0, 0.3), Thing(3, 10.0, 80.0, 20.0, 0.0)
    monkeypatch.setattr(generate, "scatter", lambda *_: [whole, cut_off])
    assert [name for name, _ in generate.crops(generate.draw("val", 0))] == ["square"]
    over = Thing(0, 95.0, 80.0, 12.0, 0.0)
    monkeypatch.setattr(generate, "scatter", lambda *_: [whole, over])
    assert [name for name, _ in generate.crops(generate.draw("val", 0))] == ["circle"]


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_labels_follow_an_image_that_is_mirrored_and_turned(task: str) -> None:
    pytest.importorskip("torch")
    import batches

    rng = np.random.default_rng(1)
    for index in range(8):
        (one,) = batches.draw_as_read(task, index, 160, 0)
        varied = batches.vary(rng, one)
        low, high = varied.labels[:, 1:3] - varied.labels[:, 3:] / 2, varied.labels[:, 1:3]
        high = high + varied.labels[:, 3:] / 2
        if task == "segment":
            for number in range(len(varied.labels)):
                rows, columns = np.nonzero(varied.mask == number + 1)
                seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 40
                assert (seen[:2] >= low[number] - 0.04).all()
                assert (seen[2:] <= high[number] + 0.04).all()
                assert (rows.size > 4) or (one.mask == number + 1).sum() <= 4
            continue
        points = varied.points
        if task == "pose":
            ends = (low[:, 1], high[:, 0], high[:, 1], low[:, 0])
            sides = points[:, 0, 1], points[:, 1, 0], points[:, 2, 1], points[:, 3, 0]
            for end, side, seen in zip(ends, sides, points[..., 2].T, strict=True):
                assert np.allclose(end[seen > 0], side[seen > 0])
        else:
            boxes = batches.turned_boxes(points[..., :2])
            assert ((boxes[:, 4] >= -np.pi / 4) & (boxes[:, 4] < 3 * np.pi / 4)).all()
            assert (boxes[:, 2] > boxes[:, 3]).all()
            middle = points[..., :2].mean(1)
            assert np.allclose(middle, boxes[:, :2])
            along = np.stack([np.cos(boxes[:, 4]), np.sin(boxes[:, 4])], 1) * boxes[:, 2:3] / 2
            reach = ((points[..., :2] - middle[:, None]) * along[:, None]).sum(2)
            assert np.allclose(np.abs(reach), boxes[:, 2:3] ** 2 / 4)
