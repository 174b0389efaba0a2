"""Pictures of an evaluation: which images, what is in them, and that they stay small whatever comes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolodeploy.data import Box, Dataset
from yolodeploy.tasks import Classify, Pictures, Shape, Tally, choose, parse_pictures, read_pictures
from yolodeploy.tasks.detection import Detect, Detections
from yolodeploy.tasks.detection.matching import Truth
from yolodeploy.tasks.obb import Obb, Rotated
from yolodeploy.tasks.pictures.picture import MAX_BYTES, MAX_JPEG, MAX_SHAPES, Picture
from yolodeploy.tasks.pictures.taking import take_pictures
from yolodeploy.tasks.pose import Pose, Poses
from yolodeploy.tasks.segment import Segment, Segments
from yolodeploy.tasks.segment.masks import Packing

MARKUP = '<b onload="x()">&\x00\x1b[31m'


def _found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections from rows of left, top, right, bottom, score, class, best first."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _images(folder: Path, count: int, size: tuple[int, int] = (80, 120)) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), np.full((*size, 3), 10 * number, np.uint8))
    return files


def test_the_worst_images_come_first_and_a_sample_that_others_share() -> None:
    fidelity: list[float | None] = [1.0] * 100
    fidelity[40], fidelity[12], fidelity[25], fidelity[7] = 0.5, 0.25, 0.9, None
    fidelity[3] = 0.99999  # agrees as far as a report shows it
    chosen = [(each.number, each.chosen) for each in choose(fidelity)]
    assert chosen[:3] == [(12, "worst"), (40, "worst"), (25, "worst")]
    assert chosen[3:] == [(number, "sample") for number in (0, 37, 50, 62, 75, 87)]
    many = choose([0.1] * 1000)
    assert [each.number for each in many[:16]] == list(range(16))
    assert [each.number for each in many[16:]] == [125, 250, 375, 500, 625, 750, 875]
    assert [(each.number, each.chosen) for each in choose([None])] == [(0, "sample")]
    assert choose([]) == []


def test_pictures_show_labels_findings_and_what_differs(tmp_path: Path) -> None:
    files = _images(tmp_path, 3)
    task = Detect(("cat", MARKUP))
    truth = Truth((Box(0, 0.25, 0.5, 0.1, 0.2),), 120, 80)
    tally = Tally(task, truths=[truth] * 3)
    box, other, third = (10, 10, 40, 40), (60, 10, 90, 40), (60, 50, 90, 75)
    tally.source = [
        _found((*box, 0.9, 0), (*other, 0.8, 1), (*third, 0.1, 0)),
        _found((*box, 0.9, 0)),
        _found((*box, 0.9, 0), (*other, 0.8, 1)),
    ]
    tally.artifact = [
        _found((*box, 0.91234, 1), (*third, 0.7, 0)),  # another class, one lost, one above the bar
        _found((*box, 0.8, 0)),
        _found((*box, 0.9, 0), (*other, 0.8, 1), (*third, 0.5, 0)),  # one made up
    ]
    view = Dataset(tmp_path / "data.yaml", task.names, tuple(files))
    labelled = tmp_path / "0.txt"
    labelled.write_text("")
    pictures = take_pictures(tally, view, 3)
    assert parse_pictures(pictures.encoded()) == pictures
    first, second, last = pictures.pictures
    assert [(each.image, each.chosen, each.fidelity) for each in pictures.pictures] == [
        ("0.png", "worst", 0.0),
        ("2.png", "worst", 0.75),  # nothing was lost, but of two classes one is half made up
        ("1.png", "sample", 1.0),
    ]
    assert [(s.name, s.score, s.mark) for s in first.source] == [
        ("cat", 0.9, "changed"),
        (MARKUP, 0.8, "lost"),
    ]
    assert [(s.name, s.score, s.mark) for s in first.artifact] == [
        (MARKUP, 0.9123, "changed"),
        ("cat", 0.7, "added"),
    ]
    assert first.source[0].outlines == (((10, 10), (40, 10), (40, 40), (10, 40)),)
    assert [s.mark for s in second.artifact] == [None, None, "added"]
    assert [s.mark for s in last.source + last.artifact] == [None, None]
    assert first.truth == (Shape("cat", None, (((24, 32), (36, 32), (36, 48), (24, 48)),)),)
    assert (first.width, first.height) == (120, 80)
    decoded = cv2.imdecode(np.frombuffer(second.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (80, 120, 3)
    assert abs(decoded.astype(int) - 20).max() <= 2
    labelled.unlink()
    assert (
        take_pictures(tally, Dataset(view.file, task.names, view.images), 3).pictures[0].truth
        is None
    )


def test_pictures_of_a_classifier_name_the_best_classes(tmp_path: Path) -> None:
    task = Classify(("a", "b"))
    tally = Tally(task, truths=[1, 0])
    tally.source = [np.array([0.4, 0.6], np.float32), np.array([0.9, 0.1], np.float32)]
    tally.artifact = [np.array([0.7, 0.3], np.float32), np.array([0.9, 0.1], np.float32)]
    view = Dataset(
        tmp_path, task.names, tuple(_images(tmp_path, 2)), task="classify", place=tmp_path
    )
    worst, sample = take_pictures(tally, view, 1).pictures
    assert (worst.chosen, worst.fidelity, sample.fidelity) == ("worst", 0.7, 1.0)
    assert worst.truth == (Shape("b"),)
    assert worst.source == (Shape("b", 0.6, mark="changed"), Shape("a", 0.4))
    assert worst.artifact == (Shape("a", 0.7, mark="changed"), Shape("b", 0.3))


def _all_tasks() -> list[tuple[Any, Any]]:
    """Each task that finds objects, with two of them."""
    boxes = np.array([[10, 10, 40, 40], [60, 10, 90, 40]], np.float32)
    rest = np.array([0.9, 0.8], np.float32), np.array([0, 0])
    packing = Packing(80, 120)
    for left, top in ((10, 10), (60, 10)):
        packing.add(np.ones((30, 30), np.bool_), left, top)
    points = np.array([[[15, 15, 1], [35, 35, 1]], [[65, 15, 1], [85, 35, 1]]], np.float32)
    rotated = np.array([[25, 25, 30, 20, 0.5], [75, 25, 30, 20, 0.5]], np.float32)
    return [
        (Segment(("a",)), Segments(boxes, *rest, packing.masks())),
        (Pose(("a",), (2, 3)), Poses(boxes, *rest, points)),
        (Obb(("a",)), Rotated(rotated, *rest)),
    ]


@pytest.mark.parametrize(("task", "both"), _all_tasks(), ids=lambda value: type(value).__name__)
def test_what_is_lost_and_what_is_made_up_counts_alike(task: Any, both: Any) -> None:
    one, none = both.take(np.array([0])), both.take(np.array([], np.int64))
    truths = [task.as_truth(both, None)] * 4
    source, artifact = [both, both, one, none], [both, one, both, none]
    assert task.image_fidelity(truths, source, artifact) == [1.0, 0.5, 0.5, None]
    assert task.marks(both, one).source == (None, "lost")
    assert task.marks(one, both).artifact == (None, "added")
    curves = task.curves([task.as_truth(both, None)], [one])
    assert curves["precision_recall"]["precision"][::25] == [1, 1, 1, 0, 0]


def test_whatever_is_found_the_file_stays_small(tmp_path: Path) -> None:
    """Images of noise, which no JPEG makes small, thousands of objects, and long names."""
    task, random = Detect(("n" * 5000,)), np.random.default_rng(0)
    files = [tmp_path / f"{'x' * 240}{number}.png" for number in range(2)]
    for file in files:
        cv2.imwrite(str(file), random.integers(0, 256, (600, 900, 3)).astype(np.uint8))
    corners = random.uniform(0, 500, (3000, 2))
    scores = np.linspace(0.9, 0.3, 3000)
    table = np.c_[corners, corners + 30, scores, np.zeros(3000)]
    tally = Tally(task, truths=[Truth((Box(0, 0.5, 0.5, 0.1, 0.1),) * 3000, 900, 600)] * 2)
    tally.source = [_found(*table)] * 2
    tally.artifact = [_found(*table[:1])] * 2
    pictures = take_pictures(tally, Dataset(tmp_path / "d.yaml", task.names, tuple(files)), 3)
    assert parse_pictures(pictures.encoded()) == pictures
    for each in pictures.pictures:
        assert len(each.jpeg) <= MAX_JPEG
        assert len(each.source) == MAX_SHAPES
        assert each.source[0].name == "n" * 200
    one = pictures.pictures[0]
    crowded = Picture(**{**vars(one), "source": one.source * 40})  # as 40 outlines each would be
    crammed = Pictures("detect", (crowded,) * 24).encoded()
    assert len(crammed) <= MAX_BYTES
    assert len(json.loads(crammed)["pictures"]) < 24


def _jpeg(height: int, width: int, more: int = 0) -> str:
    """An image of one colour in base64, with so many bytes behind it."""
    _, data = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))
    return base64.b64encode(data.tobytes() + bytes(more)).decode()


GOOD: dict[str, Any] = {
    "image": "a.png",
    "digest": f"sha256:{'0' * 64}",
    "width": 4,
    "height": 3,
    "chosen": "worst",
    "fidelity": 0.5,
    "jpeg": _jpeg(3, 4),
    "truth": None,
    "source": [],
    "artifact": [],
}
SHAPE = {"class": "a", "score": None, "outlines": [], "lines": [], "points": [], "mark": None}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"image": 3}, "pictures[0].image must be text of at most 200 characters"),
    ({"image": "x" * 201}, "pictures[0].image must be text of at most 200 characters"),
    ({"digest": "sha256:00"}, "pictures[0].digest must be `sha256:` and 64 hexadecimal digits"),
    ({"width": 0}, "pictures[0].width must be a whole number of pixels, at least 1, but is 0"),
    ({"height": True}, "pictures[0].height must be a whole number of pixels"),
    ({"chosen": "best"}, "pictures[0].chosen must be one of worst, sample, but is best"),
    ({"fidelity": 1.5}, "pictures[0].fidelity must be a number from 0 to 1, but is 1.5"),
    ({"jpeg": "PHN2Zz4="}, "pictures[0].jpeg must be a JPEG of at most 480 pixels and 96 KiB"),
    ({"jpeg": "/9j/4A=="}, "pictures[0].jpeg must be a JPEG of at most 480 pixels and 96 KiB"),
    ({"jpeg": _jpeg(481, 4)}, "pictures[0].jpeg must be a JPEG of at most 480 pixels"),
    ({"jpeg": _jpeg(4, 4) + "!"}, "pictures[0].jpeg must be a JPEG of at most 480 pixels"),
    ({"jpeg": _jpeg(4, 4, 200_000)}, "pictures[0].jpeg must be a JPEG of at most 480 pixels"),
    ({"source": {}}, "pictures[0].source must be a list, but is an object"),
    ({"source": [SHAPE] * 101}, "pictures[0].source has 101 entries, and at most 100 are allowed"),
    ({"more": 1}, "pictures[0] has an unknown key more"),
    ({"truth": [{**SHAPE, "mark": "new"}]}, "pictures[0].truth[0].mark must be one of null, lost"),
    (
        {"truth": [{**SHAPE, "points": [[1, "2"]]}]},
        "pictures[0].truth[0].points[0] must be a number",
    ),
    (
        {"truth": [{**SHAPE, "lines": [[1, 2]]}]},
        "pictures[0].truth[0].lines[0] must be a list of 4",
    ),
    ({"truth": [{**SHAPE, "points": [[1e99, 2]]}]}, "must be a number from -1e+06 to 1e+06"),
    (
        {"truth": [{**SHAPE, "class": "\ud800"}]},
        "pictures[0].truth[0].class has half of a character",
    ),
]


@pytest.mark.parametrize(("change", "problem"), FAULTS)
def test_what_is_wrong_with_a_foreign_file_is_said(change: dict[str, Any], problem: str) -> None:
    def written(picture: dict[str, Any]) -> bytes:
        return json.dumps({"format": 1, "task": "detect", "pictures": [picture]}).encode()

    assert parse_pictures(written(GOOD)).pictures[0].jpeg == base64.b64decode(GOOD["jpeg"])
    with pytest.raises(ValueError) as caught:
        parse_pictures(written({**GOOD, **change}))
    assert str(caught.value).startswith(problem) or problem in str(caught.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff", "it is not text in UTF-8"),
        (b"{", "it is not JSON: "),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"format": NaN}', "it has NaN, which is not a number"),
        (b"[]", "it must be an object, but is a list"),
        (b'{"task": "detect", "pictures": []}', "it lacks format"),
        (
            b'{"format": 2, "task": "detect", "pictures": []}',
            "its format is 2, and this release reads 1",
        ),
        (b'{"format": 1, "task": "fly", "pictures": []}', "task must be one of detect, segment"),
    ],
)
def test_a_file_that_holds_no_pictures_is_refused(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    file = tmp_path / "pictures.json"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=problem):
        read_pictures(file)
    file.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(OSError, match="larger than 8 MiB"):
        read_pictures(file)
