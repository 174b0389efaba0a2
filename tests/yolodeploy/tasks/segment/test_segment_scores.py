"""Mask AP against COCO's own evaluation, run here on the same masks."""

from __future__ import annotations

import coco_objects
import numpy as np
import pytest

from yolodeploy.data import Polygon
from yolodeploy.tasks import Key
from yolodeploy.tasks.average_precision import precision
from yolodeploy.tasks.measures import grouped, one
from yolodeploy.tasks.segment import Masks, Segment, Segments, SegmentTruth
from yolodeploy.tasks.segment.labels import paint
from yolodeploy.tasks.segment.masks import Packing
from yolodeploy.tasks.segment.matching import mask_matches

NAMES = ("a", "b", "c")
WIDTH, HEIGHT = 170, 130
Model = list[Segments]


def _blob(random: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Corners `[n, 2]` in pixels of a polygon around a point."""
    angles = np.sort(random.uniform(0, 2 * np.pi, 12))
    radii = radius * random.uniform(0.7, 1.1, 12)
    return centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def _painted(corners: np.ndarray, cls: int) -> SegmentTruth:
    return paint([_polygon(corners, cls)], WIDTH, HEIGHT)


def _polygon(corners: np.ndarray, cls: int) -> Polygon:
    points = (corners / (WIDTH, HEIGHT)).tolist()
    return Polygon(cls, tuple((x, y) for x, y in points))


def _found(masks: list[SegmentTruth], scores: list[float], classes: list[int]) -> Segments:
    packing = Packing(HEIGHT, WIDTH)
    boxes = np.zeros((len(masks), 4), np.float32)
    for place, each in enumerate(masks):
        pixels = coco_objects.pixels(each.masks, 0)
        packing.add(pixels.T, 0, 0)
        x, y = np.flatnonzero(pixels.any(0)), np.flatnonzero(pixels.any(1))
        if len(x):
            boxes[place] = x[0], y[0], x[-1] + 1, y[-1] + 1
    order = np.argsort(-np.array(scores))
    return Segments(
        boxes[order],
        np.array(scores, np.float32)[order],
        np.array(classes, np.int64)[order],
        packing.masks().take(order),
    )


def _scene(seed: int, images: int) -> tuple[list[SegmentTruth], Model, Model]:
    """Labels that overlap and reach beyond the image, and two models that find most of them more or less well."""
    random = np.random.default_rng(seed)
    truths: list[SegmentTruth] = []
    models: tuple[Model, Model] = ([], [])
    scores = iter(random.permutation(images * 40) / (images * 40.0))
    for _ in range(images):
        count = int(random.integers(0, 7))
        blobs = [
            _blob(random, random.uniform(0, (WIDTH, HEIGHT)), random.choice([6, 15, 25, 80]))
            for _ in range(count)
        ]
        kinds = random.integers(0, 2, count).tolist()
        shapes = [_polygon(blob, kind) for blob, kind in zip(blobs, kinds, strict=True)]
        truths.append(paint(shapes, WIDTH, HEIGHT))
        for spread, model in zip((1, 3), models, strict=True):
            again = [n for n in range(count) for _ in range(int(random.integers(0, 3)))]
            named = [kinds[n] if random.random() < 0.9 else 1 for n in again]
            masks = [_painted(blobs[n] + random.normal(0, spread, (12, 2)), 0) for n in again]
            model.append(_found(masks, [next(scores) for _ in again], named))
    return truths, *models


def _annotations(masks: Masks, classes: np.ndarray, image: int) -> list[dict[str, object]]:
    return [
        {"image_id": image, "category_id": cls, "segmentation": mask, "area": area, "bbox": [0] * 4}
        for mask, cls, area in zip(
            masks.coco(), classes.tolist(), masks.areas.tolist(), strict=True
        )
    ]


def _coco_figures(truths: list[SegmentTruth], found: Model) -> list[float]:
    labels = list[dict[str, object]]()
    for image, truth in enumerate(truths):
        shown = np.flatnonzero(truth.masks.areas)
        labels += _annotations(truth.masks.take(shown), truth.classes[shown], image)
    results = [
        {**row, "score": float(score)}
        for image, some in enumerate(found)
        for row, score in zip(
            _annotations(some.masks, some.classes, image), some.scores, strict=True
        )
    ]
    sizes = [(WIDTH, HEIGHT)] * len(truths)
    return coco_objects.figures(coco_objects.table(labels, results, sizes, len(NAMES), "segm"))


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_are_those_of_coco(seed: int) -> None:
    truths, source, artifact = _scene(seed, 25)
    for found in (source, artifact):
        ours = precision(mask_matches(truths, found, len(NAMES)))
        figures = [ours.map50_95, ours.map50, *ours.by_size, *ours.per_class]
        assert figures == pytest.approx(_coco_figures(truths, found), abs=1e-12, nan_ok=True)
        assert 0.2 < ours.map50_95 < 0.95
        assert not np.isnan(ours.by_size).any()


def test_measures_name_masks_first_then_boxes() -> None:
    truths, source, artifact = _scene(3, 25)
    task = Segment(NAMES)
    measures = list(task.against_labels(truths, source, artifact, 0.9))
    assert [m.key for m in measures if not m.group] == list(task.scores)
    first = measures[0]
    assert (first.key, first.artifact) == (task.primary, task.score(truths, artifact))
    assert first.source is not None
    assert first.artifact is not None
    assert first.source > first.artifact
    assert first.interval is not None
    assert first.interval[0] < first.loss < first.interval[1]  # type: ignore[operator]
    classes = list(grouped(measures, Key.CLASS_AP))
    assert [m.group for m in classes] == list(NAMES)
    assert sum(m.count or 0 for m in classes) == sum(map(task.objects, truths))
    assert classes[2].reason == "no evaluation image shows this class"
    boxes = one(measures, Key.MAP50_95)
    assert boxes.artifact != first.artifact


def test_a_model_agrees_with_itself_whatever_its_masks_overlap() -> None:
    truths, source, artifact = _scene(4, 12)
    task = Segment(NAMES)
    sure = [task.as_truth(found, truth) for found, truth in zip(source, truths, strict=True)]
    assert 0 < sum(map(task.objects, sure)) < sum(map(task.count, source))
    assert task.score(sure, source) == 1.0
    assert 0.05 < task.score(sure, artifact) < 0.9


def test_labels_without_a_pixel_do_not_count() -> None:
    square = np.array([(20.5, 20.5), (60.5, 20.5), (60.5, 60.5), (20.5, 60.5)])
    beyond = square + np.array([WIDTH, 0])
    plain = paint([_polygon(square, 0)], WIDTH, HEIGHT)
    hidden = paint([_polygon(square, 0), _polygon(square, 1), _polygon(beyond, 0)], WIDTH, HEIGHT)
    assert hidden.masks.areas.tolist() == [0.0, 41.0 * 41, 0.0]  # of equals, the last on top
    task, found = Segment(NAMES), [_found([plain], [0.9], [1])]
    assert task.objects(hidden) == 1
    assert task.score([hidden], found) == 1.0


def test_images_without_objects_have_a_defined_result() -> None:
    task, nothing = Segment(NAMES), paint([], WIDTH, HEIGHT)
    square = np.array([(20.5, 20.5), (60.5, 20.5), (60.5, 60.5), (20.5, 60.5)])
    some = _painted(square, 0)
    found, none = _found([some], [0.9], [0]), _found([], [], [])
    assert np.isnan(task.score([nothing], [found]))
    assert np.isnan(task.score([nothing], [none]))
    assert task.score([some], [none]) == 0.0
    assert task.score([some, nothing], [found, found]) == pytest.approx(1.0)  # an equal score later
    empty = _found([paint([_polygon(square + 900, 0)], WIDTH, HEIGHT)], [0.9], [0])
    assert empty.masks.areas.tolist() == [0.0]
    assert task.score([some], [empty]) == 0.0
    assert task.objects(task.as_truth(empty, some)) == 0
    measure = next(iter(task.against_labels([nothing], [none], [none], 0.9)))
    assert (measure.artifact, measure.reason) == (None, "no evaluation image shows an object")
