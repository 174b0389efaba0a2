"""OKS and pose AP against COCO's own evaluation, run here on the same poses."""

from __future__ import annotations

import coco_objects
import numpy as np
import pytest

from yolodeploy.data import Box
from yolodeploy.data import Pose as Label
from yolodeploy.tasks import Key
from yolodeploy.tasks.average_precision import precision
from yolodeploy.tasks.measures import grouped
from yolodeploy.tasks.pose import Pose, Poses, PoseTruth
from yolodeploy.tasks.pose.matching import AREA, pose_matches, read_poses, spreads

NAMES = ("a", "b", "c")
WIDTH, HEIGHT = 300, 200
Model = list[Poses]


def _label(cls: int, box: np.ndarray, points: np.ndarray) -> Label:
    left, top, right, bottom = (box / ((WIDTH, HEIGHT) * 2)).tolist()
    middle = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    shares = (points / (WIDTH, HEIGHT, 1)).tolist()
    return Label(Box(cls, *middle), tuple((x, y, seen) for x, y, seen in shares))


def _found(rows: list[tuple[float, int, np.ndarray, np.ndarray]], count: int) -> Poses:
    """Poses from rows of score, class, box and keypoints."""
    rows = sorted(rows, key=lambda row: -row[0])
    scores, classes, boxes, points = zip(*rows, strict=True) if rows else ([],) * 4
    return Poses(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
        np.array(points, np.float32).reshape(-1, count, 3),
    )


def _scene(seed: int, images: int, count: int) -> tuple[list[PoseTruth], Model, Model]:
    """Labels, some of them without a labelled keypoint, and two models that find them more or less well."""
    random = np.random.default_rng(seed)
    truths: list[PoseTruth] = []
    models: tuple[Model, Model] = ([], [])
    scores = iter(random.permutation(images * 60) / (images * 60.0))
    for _ in range(images):
        labels = []
        found: tuple[list[tuple[float, int, np.ndarray, np.ndarray]], ...] = ([], [])
        for _ in range(int(random.integers(0, 6))):
            corner, sides = (
                random.uniform(0, 140, 2),
                random.choice([20, 50, 150]) * random.uniform(0.7, 1.2, 2),
            )
            box = np.concatenate([corner, corner + sides])
            points = np.c_[
                random.uniform(corner, corner + sides, (count, 2)), random.integers(0, 3, count)
            ]
            points[:, 2] *= random.random() < 0.8
            kind = int(random.integers(0, 2))
            labels.append(_label(kind, box, points))
            for spread, rows in zip((0.03, 0.1), found, strict=True):
                for _ in range(int(random.integers(0, 3))):
                    moved = np.c_[
                        points[:, :2] + random.normal(0, spread, (count, 2)) * sides, np.ones(count)
                    ]
                    named = kind if random.random() < 0.9 else 1
                    rows.append((next(scores), named, box + random.normal(0, 1, 4), moved))
        truths.append(read_poses(labels, count, WIDTH, HEIGHT))
        for rows, model in zip(found, models, strict=True):
            model.append(_found(rows, count))
    return truths, *models


def _coco_figures(truths: list[PoseTruth], found: Model, count: int) -> list[float]:
    labels, results = list[dict[str, object]](), list[dict[str, object]]()
    for image, (truth, some) in enumerate(zip(truths, found, strict=True)):
        for cls, box, points in zip(
            truth.classes.tolist(), truth.boxes, truth.keypoints, strict=True
        ):
            labels.append(
                {
                    "image_id": image,
                    "category_id": cls,
                    "bbox": box.tolist(),
                    "area": float(AREA * box[2] * box[3]),
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
        for place in range(len(some)):
            box = some.boxes[place].astype(np.float64)
            sides = box[2:] - box[:2]
            results.append(
                {
                    "image_id": image,
                    "category_id": int(some.classes[place]),
                    "score": float(some.scores[place]),
                    "bbox": [*box[:2].tolist(), *sides.tolist()],
                    "area": float(AREA * sides.prod()),
                    "keypoints": some.keypoints[place].astype(np.float64).ravel().tolist(),
                    "num_keypoints": count,
                }
            )
    sizes = [(WIDTH, HEIGHT)] * len(truths)
    return coco_objects.figures(
        coco_objects.table(labels, results, sizes, len(NAMES), "keypoints", spreads(count))
    )


@pytest.mark.parametrize(("seed", "count"), [(1, 4), (2, 17)])
def test_figures_are_those_of_coco(seed: int, count: int) -> None:
    truths, source, artifact = _scene(seed, 30, count)
    for found in (source, artifact):
        ours = precision(pose_matches(truths, found, len(NAMES)))
        figures = [ours.map50_95, ours.map50, *ours.by_size, *ours.per_class]
        assert figures == pytest.approx(_coco_figures(truths, found, count), abs=1e-12, nan_ok=True)
        assert 0.01 < ours.map50_95 < 0.95
        assert not np.isnan(ours.by_size).any()
    assert not np.concatenate([truth.labelled for truth in truths]).all()


def test_measures_name_poses_first_then_boxes() -> None:
    truths, source, artifact = _scene(3, 30, 4)
    task = Pose(NAMES, (4, 3))
    measures = list(task.against_labels(truths, source, artifact, 0.9))
    assert [m.key for m in measures if not m.group] == list(task.scores)
    first = measures[0]
    assert (first.key, first.artifact) == (task.primary, task.score(truths, artifact))
    assert first.interval is not None
    assert first.interval[0] < first.loss < first.interval[1]  # type: ignore[operator]
    counts = [m.count or 0 for m in grouped(measures, Key.CLASS_AP)]
    assert sum(counts) == sum(map(task.objects, truths)) < sum(len(t.classes) for t in truths)


POINTS = np.array([(30, 30, 2), (60, 30, 1), (60, 70, 2), (30, 70, 0)], float)
BOX = np.array([25, 25, 65, 75], float)


def test_only_labelled_keypoints_count() -> None:
    task = Pose(NAMES, (4, 3))
    truth = read_poses([_label(0, BOX, POINTS)], 4, WIDTH, HEIGHT)
    for moved, score in (
        (3, 1.0),
        (0, 0.4),
    ):  # OKS of the second is (1 + 1 + e ** -2.35) / 3 = 0.70
        points = POINTS.copy()
        points[moved, :2] += 0 if moved == 3 else 35.3, 100 if moved == 3 else 0
        found = _found([(0.9, 0, BOX, points)], 4)
        assert task.score([truth], [found]) == pytest.approx(score)


def test_objects_without_a_labelled_keypoint_are_ignored_with_what_is_found_there() -> None:
    task = Pose(NAMES, (4, 3))
    unlabelled = POINTS * (1, 1, 0)
    aside = BOX + np.array([150, 0, 150, 0])
    labels = [_label(0, BOX, POINTS), _label(0, aside, unlabelled + np.array([150, 0, 0]))]
    truth = read_poses(labels, 4, WIDTH, HEIGHT)
    there = (0.95, 0, aside, POINTS + np.array([150, 0, 0]))
    elsewhere = (0.95, 0, aside, POINTS + np.array([-29, 120, 0]))
    found = (0.9, 0, BOX, POINTS)
    assert task.objects(truth) == 1
    assert task.score([truth], [_found([there, found], 4)]) == 1.0
    assert task.score([truth], [_found([elsewhere, found], 4)]) == 0.5
    only = read_poses(labels[1:], 4, WIDTH, HEIGHT)
    assert np.isnan(task.score([only], [_found([there], 4)]))
    measure = next(iter(task.against_labels([only], [_found([], 4)], [_found([], 4)], 0.9)))
    assert (measure.artifact, measure.reason) == (None, "no evaluation image shows an object")


def test_images_without_objects_have_a_defined_result() -> None:
    task, nothing = Pose(NAMES, (4, 3)), read_poses([], 4, WIDTH, HEIGHT)
    some, found, none = (
        read_poses([_label(0, BOX, POINTS)], 4, WIDTH, HEIGHT),
        _found([(0.9, 0, BOX, POINTS)], 4),
        _found([], 4),
    )
    assert nothing.keypoints.shape == (0, 4, 3)
    assert np.isnan(task.score([nothing], [found]))
    assert task.score([some], [none]) == 0.0
    assert task.score([some, nothing], [found, found]) == 1.0
    flat = read_poses([_label(0, BOX * (1, 1, 0, 1) + (0, 0, 25, 0), POINTS)], 4, WIDTH, HEIGHT)
    assert task.score([flat], [found]) == 1.0  # without an area, keypoints must be exact
    moved = _found([(0.9, 0, BOX, POINTS + np.array([0.01, 0, 0]))], 4)
    assert task.score([flat], [moved]) == 0.0


def test_fidelity_asks_for_the_keypoints_that_the_source_sees() -> None:
    task = Pose(NAMES, (4, 3))
    image = read_poses([], 4, WIDTH, HEIGHT)
    seen = POINTS * (1, 1, 0) + (0, 0, 0.9) - (0, 0, 0.8) * np.array([0, 0, 0, 1])[:, None]
    sure = _found([(0.9, 0, BOX, seen), (0.2, 0, BOX, seen)], 4)
    truth = task.as_truth(sure, image)
    assert truth.keypoints[:, :, 2].tolist() == [[1, 1, 1, 0]]
    assert task.objects(truth) == 1
    points = seen.copy()
    points[3] += (0, 100, 0)
    assert task.score([truth], [_found([(0.9, 0, BOX, points)], 4)]) == 1.0
    truths, source, artifact = _scene(5, 12, 4)
    labels = [task.as_truth(some, truth) for some, truth in zip(source, truths, strict=True)]
    assert task.score(labels, source) == 1.0
    assert task.score(labels, artifact) < 1.0
