"""Rows of an end-to-end detector: their selection, and how those of two outputs are compared."""

from __future__ import annotations

import numpy as np
import pytest

from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape
from yolodeploy.tasks import APP, EVALUATION
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy.tasks.detection.postprocess import detect
from yolodeploy.tasks.detection.rows import best_rows, pair_rows, row_differences, rows_fault

ROW = np.array(
    [
        (10, 10, 30, 50, 0.9, 1),
        (10, 10, 30, 50, 0.4, 0),
        (60, 10, 80, 50, 0.2, 1),
        (5, 5, 9, 9, 0.1, 0),
    ],
    np.float32,
)


def _raw(seed: int, classes: int, anchors: int) -> np.ndarray:
    """Boxes of whole pixels, and scores of few values, so that many are equal."""
    rng = np.random.default_rng(seed)
    boxes = rng.integers(1, 90, (4, anchors))
    return np.concatenate([boxes, rng.integers(0, 6, (classes, anchors)) / 8]).astype(np.float32)


def _selected(raw: np.ndarray, count: int) -> list[tuple[float, ...]]:
    """The selection, one step after the other: the best anchors, then their best pairs."""
    classes, anchors = len(raw) - 4, raw.shape[1]
    best = sorted(range(anchors), key=lambda a: -max(raw[4:, a]))[:count]
    pairs = [(raw[4 + c, a], a, c) for a in best for c in range(classes)]
    rows = []
    for score, anchor, cls in sorted(pairs, key=lambda pair: -pair[0])[: min(count, anchors)]:
        x, y, w, h = raw[:4, anchor]
        rows.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, cls))
    return rows


@pytest.mark.parametrize(("classes", "anchors"), [(1, 9), (3, 40), (5, 7), (80, 25)])
def test_the_best_anchors_then_their_best_pairs(classes: int, anchors: int) -> None:
    for seed in range(5):
        raw = _raw(seed, classes, anchors)
        rows = best_rows(raw, 12)
        assert rows.dtype == np.float32
        assert rows.tolist() == np.array(_selected(raw, 12), np.float32).tolist()
        assert rows_fault(rows, classes) is None


def test_one_anchor_may_give_several_classes_and_overlaps_stay() -> None:
    """Four anchors on the same object, one of which is sure of two classes."""
    raw = np.array(
        [[20, 20, 20, 21], [30] * 4, [20] * 4, [40] * 4, [0.4, 0, 0.3, 0], [0.9, 0, 0, 0.26]]
    )
    box = letterbox(np.zeros((64, 64, 3), np.uint8), ImageShape.square(64))
    anchors = raw.astype(np.float32)
    many = detect(anchors, APP, box, "anchors")
    one = detect(anchors, APP.for_head("one-to-one"), box, "anchors")
    assert many.scores.tolist() == pytest.approx([0.9, 0.3])
    assert one.scores.tolist() == pytest.approx([0.9, 0.4, 0.3, 0.26])
    assert one.classes.tolist() == [1, 0, 0, 1]
    rows = detect(best_rows(anchors), APP.for_head("one-to-one"), box, "rows")
    assert all((getattr(rows, n) == getattr(one, n)).all() for n in ("boxes", "scores", "classes"))
    assert len(detect(anchors, EVALUATION.for_head("one-to-one"), box, "anchors")) == 4


def test_the_order_of_nearly_equal_scores_is_no_difference() -> None:
    raw = _raw(3, 80, 30)
    one = best_rows(raw)
    rng = np.random.default_rng(0)
    two = one[rng.permutation(len(one))]
    boxes, scores = row_differences(one, two)
    assert (len(boxes), boxes.max(), scores.max()) == (len(one), 0, 0)
    noisy = raw + rng.normal(0, 1e-4, raw.shape).astype(np.float32)
    boxes, scores = row_differences(one, best_rows(noisy))
    assert boxes.max() < 1e-3
    assert scores.max() < 1e-3
    assert output_noise([one], [two], "rows") == 0


def test_boxes_without_an_area_and_repeated_rows_pair_with_themselves() -> None:
    rows = np.array([(7, 7, 7, 7, 0.5, 0)] * 3 + [(0, 0, 0, 0, 0, 0)] * 5, np.float32)
    boxes, scores = row_differences(rows, rows)
    assert (len(boxes), boxes.max(), scores.max()) == (8, 0, 0)


def test_a_lost_detection_differs_by_what_it_lies_above_the_other_output() -> None:
    moved = ROW.copy()
    moved[0, :4] += 11  # over a quarter of 40 pixels: another box
    paired = pair_rows(ROW, moved)
    assert sorted(paired.first.tolist()) == [1, 2, 3]
    assert paired.lost.tolist() == pytest.approx([0.8, 0, 0, 0])
    boxes, scores = row_differences(ROW, moved)
    assert boxes.max() == 0
    assert sorted(scores.tolist()) == pytest.approx([0, 0, 0, 0.8, 0.8])
    moved[0, :4] = ROW[0, :4] + 9
    assert row_differences(ROW, moved)[0].max() == 9
    swapped = ROW.copy()
    swapped[3] = (
        40,
        40,
        44,
        44,
        0.1,
        1,
    )  # another last row, no better: nothing that matters was lost
    boxes, scores = row_differences(ROW, swapped)
    assert (len(boxes), scores.max()) == (3, 0)


def test_noise_of_rows() -> None:
    power = 0.9**2 + 0.4**2 + 0.2**2 + 0.1**2
    spoilt = ROW.copy()
    spoilt[0, 4] -= 0.1
    assert output_noise([ROW], [spoilt], "rows") == pytest.approx(0.01 / power, rel=1e-5)
    moved = ROW.copy()
    moved[0, 0] += 2  # one of four coordinates by 2: mean square 1, over 20 x 40
    assert output_noise([ROW], [moved], "rows") == pytest.approx(0.9 / 1.6 * 1 / 800, rel=1e-5)
    lost = np.concatenate([ROW[1:], ROW[3:]])
    assert output_noise([ROW], [lost], "rows") == pytest.approx(0.8**2 / power, rel=1e-5)


def test_broken_rows() -> None:
    assert rows_fault(ROW, 1) == "names a class that is none of 0 to 0"
    assert rows_fault(ROW[::-1], 2) == "is not sorted by score"
    assert rows_fault(ROW + 0.5, 2) == "names a class that is none of 0 to 1"
