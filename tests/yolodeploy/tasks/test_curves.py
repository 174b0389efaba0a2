"""Curves and the AP of single images, against COCO's evaluation run on the same detections."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from yolodeploy.data import Box
from yolodeploy.tasks import Classify
from yolodeploy.tasks.average_precision import mean_precision
from yolodeploy.tasks.curves import curves_of, image_precision
from yolodeploy.tasks.detection.matching import Truth, matches
from yolodeploy.tasks.detection.postprocess import Detections
from yolodeploy.tasks.matching import Fits, Matches

SIDE, CLASSES = 300, 4
Scene = tuple[list[Truth], list[Detections]]


def _scene(images: int = 30, seed: int = 0) -> Scene:
    """Labels of all classes but the last, and findings: some right, some twice, some made up."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(random.integers(0, 7))
        kinds = random.integers(0, CLASSES - 1, count)
        corners = random.uniform(0, 200, (count, 2))
        boxes = np.c_[corners, corners + random.uniform(20, 100, (count, 2))]
        rows = [
            Box(int(cls), *((box[:2] + box[2:]) / 2 / SIDE), *((box[2:] - box[:2]) / SIDE))
            for cls, box in zip(kinds, boxes, strict=True)
        ]
        truths.append(Truth(tuple(rows), SIDE, SIDE))
        again = np.repeat(np.arange(count), random.integers(0, 3, count))
        made_up = np.sort(random.uniform(0, SIDE, (4, 4)))
        all_boxes = np.concatenate([boxes[again] + random.normal(0, 6, (len(again), 4)), made_up])
        classes = np.concatenate([kinds[again], random.integers(0, CLASSES, 4)])
        scores = np.sort(random.uniform(0.001, 1, len(classes)))[::-1].astype(np.float32)
        order = random.permutation(len(classes))
        found.append(Detections(all_boxes[order].astype(np.float32), scores, classes[order]))
    return truths, found


def _coco(truths: list[Truth], found: list[Detections], recalls: np.ndarray) -> Any:
    """COCO's evaluation at an IoU of 0.5."""
    labels: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        for box in truth.boxes:
            width, height = box.width * SIDE, box.height * SIDE
            left, top = box.x * SIDE - width / 2, box.y * SIDE - height / 2
            labels.append(
                {
                    "id": len(labels) + 1,
                    "image_id": image,
                    "category_id": box.cls,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    rows = [
        {
            "image_id": image,
            "category_id": int(cls),
            "score": float(score),
            "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
        }
        for image, each in enumerate(found)
        for box, score, cls in zip(each.boxes, each.scores, each.classes, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(
            {
                "images": [{"id": i, "width": SIDE, "height": SIDE} for i in range(len(truths))],
                "categories": [{"id": c, "name": str(c)} for c in range(CLASSES)],
                "annotations": labels,
            }
        )
        evaluation = COCOeval_faster(coco, coco.loadRes(rows), "bbox")
        evaluation.params.maxDets, evaluation.params.recThrs = [300], recalls
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def test_precision_by_recall_is_that_of_coco() -> None:
    truths, found = _scene()
    curves = curves_of(matches(truths, found, CLASSES))
    assert curves is not None
    grid = np.arange(101) / 100
    precision = _coco(truths, found, grid)["precision"][0, :, : CLASSES - 1, 0, 0]
    assert curves["precision_recall"]["recall"] == pytest.approx(grid)
    assert curves["precision_recall"]["precision"] == pytest.approx(precision.mean(1), abs=6e-5)


def test_a_confidence_leaves_what_coco_finds_without_the_findings_below() -> None:
    truths, found = _scene(seed=1)
    curves = curves_of(matches(truths, found, CLASSES))
    assert curves is not None
    table = curves["confidence"]
    for step in (0, 10, 25, 50, 73, 90):
        left = [each.take(np.flatnonzero(each.scores >= step / 100)) for each in found]
        recall = _coco(truths, left, np.arange(101) / 100)["recall"][0, : CLASSES - 1, 0, 0]
        classes = [box.cls for truth in truths for box in truth.boxes]
        right = recall * np.bincount(classes)
        count = [sum((each.classes == cls).sum() for each in left) for cls in range(CLASSES - 1)]
        precision = right / np.array(count)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert table["confidence"][step] == step / 100
        means = [table[name][step] for name in ("precision", "recall", "f1")]
        assert means == pytest.approx([precision.mean(), recall.mean(), f1.mean()], abs=6e-5)
    assert table["precision"][100] == 1  # nothing is found, and nothing is wrong
    assert table["recall"][100] == table["f1"][100] == 0


def test_the_precision_of_an_image_is_that_of_all_images_if_it_is_the_only_one() -> None:
    truths, found = _scene(seed=2)
    alone = image_precision(matches(truths, found, CLASSES))
    wanted = [
        mean_precision(matches([truth], [each], CLASSES))
        for truth, each in zip(truths, found, strict=True)
    ]
    assert np.isnan(alone).sum() == sum(not truth.boxes for truth in truths) > 0
    np.testing.assert_allclose(alone, wanted, atol=1e-12)


def test_labels_that_nobody_is_asked_to_find_count_neither_way() -> None:
    """The best finding takes an ignored label at all thresholds but the highest, the second is right."""

    def fits(ignored: bool) -> Fits:
        return Fits(
            np.array([0, 0]),
            np.array([100.0, 100.0]),
            np.array([0, 0, 0]),
            np.array([100.0, 100.0, 100.0]),
            np.array([0.9, 0.8, 0.7], np.float32),
            np.array([[0.9, 0.0], [0.0, 1.0], [0.0, 0.0]]),
            np.array([ignored, False]),
        )

    for ignored in (True, False):
        both = Matches([fits(ignored), fits(not ignored)], 1)
        alone = [mean_precision(Matches([fits(each)], 1)) for each in (ignored, not ignored)]
        np.testing.assert_allclose(image_precision(both), alone, atol=1e-12)
    curves = curves_of(Matches([fits(ignored=True)], 1))
    assert curves is not None
    assert curves["confidence"]["precision"][::10] == [0.5] * 8 + [1, 1, 1]  # of 0.8 and 0.7
    assert curves["confidence"]["recall"][::10] == [1] * 9 + [0, 0]


def test_without_labels_or_findings() -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty, one = Truth((), SIDE, SIDE), Truth((Box(1, 0.5, 0.5, 0.1, 0.1),), SIDE, SIDE)
    assert curves_of(matches([], [], CLASSES)) is None
    assert curves_of(matches([empty], [none], CLASSES)) is None
    assert image_precision(matches([], [], CLASSES)).tolist() == []
    pair = image_precision(matches([empty, one], [none, none], CLASSES)).tolist()
    assert math.isnan(pair[0])
    assert pair[1] == 0
    curves = curves_of(matches([one], [none], CLASSES))
    assert curves is not None
    assert set(curves["precision_recall"]["precision"]) == {0}
    assert set(curves["confidence"]["recall"]) == {0}


def test_ten_thousand_classes_and_many_images_take_no_time() -> None:
    random, count = np.random.default_rng(0), 3000
    classes = random.integers(0, 10_000, (count, 2))

    def found(kinds: np.ndarray) -> Detections:
        return Detections(
            np.array([[30, 30, 60, 60], [150, 150, 240, 240]], np.float32),
            np.array([0.9, 0.5], np.float32),
            kinds,
        )

    boxes = ((0.15, 0.15, 0.1, 0.1), (0.65, 0.65, 0.3, 0.3))
    truths = [
        Truth(tuple(Box(int(c), *b) for c, b in zip(kinds, boxes, strict=True)), SIDE, SIDE)
        for kinds in classes
    ]
    both = matches(truths, [found(kinds) for kinds in classes], 10_000)
    start = time.process_time()
    assert (image_precision(both) == 1).all()
    curves = curves_of(both)
    assert time.process_time() - start < 2  # 0.2 as a rule
    assert curves is not None
    assert set(curves["precision_recall"]["precision"]) == {1}


def test_the_curve_of_a_classifier_is_its_accuracy_where_it_is_sure() -> None:
    task = Classify(("a", "b"))
    found = [np.array([1 - p, p], np.float32) for p in (0.95, 0.8, 0.4, 0.35)]
    curves = task.curves([1, 0, 0, 1], found)  # right, wrong, right, wrong; sure: .95 .8 .6 .65
    assert curves is not None
    table = curves["confidence"]
    rows = dict(
        zip(table["confidence"], zip(table["accuracy"], table["share"], strict=True), strict=True)
    )
    assert list(rows) == [step / 100 for step in range(96)]  # none is surer than 0.95
    for confidence, row in ((0, (0.5, 1)), (0.61, (1 / 3, 0.75)), (0.9, (1, 0.25))):
        assert rows[confidence] == pytest.approx(row, abs=6e-5)
    assert task.curves([], []) is None
    assert all(len(a) == len(b) for a, b in itertools.pairwise(table.values()))
