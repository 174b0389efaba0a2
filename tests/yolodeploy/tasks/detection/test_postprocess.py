"""Decoding, suppression, letterboxing and average precision against references written here."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World

from yolodeploy.data.dataset import Box
from yolodeploy.data.images import letterbox, to_tensor
from yolodeploy.hosts import LOCAL
from yolodeploy.system import FILL, ImageShape
from yolodeploy.tasks import Key, Measure, Tally
from yolodeploy.tasks.average_precision import (
    Intervals,
    drop_intervals,
)
from yolodeploy.tasks.detection import Detect
from yolodeploy.tasks.detection.matching import Truth, average_precision, matches
from yolodeploy.tasks.detection.postprocess import Detections, decode, detect, suppress, to_original
from yolodeploy.tasks.thresholds import Rules


def _found(rows: list[tuple[float, ...]]) -> Detections:
    """Detections from rows of left, top, right, bottom, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _iou(one: np.ndarray, two: np.ndarray) -> float:
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    both = float(np.prod(np.clip(sides, 0, None)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]))
    return both / (areas - both)


def _reference(found: Detections, iou: float, limit: int) -> list[int]:
    kept: list[int] = []
    boxes = found.boxes.astype(np.float64)
    for index in range(len(found)):
        rivals = [k for k in kept if found.classes[k] == found.classes[index]]
        if all(_iou(boxes[k], boxes[index]) <= iou for k in rivals):
            kept.append(index)
    return kept[:limit]


corner = st.integers(0, 40)
side = st.integers(1, 40)
row = st.tuples(corner, corner, side, side, st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(row, max_size=25), st.sampled_from([0.31, 0.53, 0.7]), st.sampled_from([3, 300]))
def test_suppression_is_greedy_nms_per_class(
    rows: list[tuple[int, ...]], iou: float, limit: int
) -> None:
    scores = np.linspace(0.9, 0.1, len(rows) or 1)
    found = _found(
        [(x, y, x + w, y + h, s, c) for (x, y, w, h, c), s in zip(rows, scores, strict=False)]
    )
    boxes = found.boxes.astype(np.float64)
    overlaps = [_iou(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    if any(abs(value - iou) < 1e-5 for value in overlaps):
        return  # a tie that float32 may decide either way
    kept = suppress(found, Rules(0.0, iou, limit, multi_label=True))
    expected = _reference(found, iou, limit)
    assert kept.scores.tolist() == found.scores[expected].tolist()
    assert kept.boxes.tolist() == found.boxes[expected].tolist()
    assert kept.classes.tolist() == found.classes[expected].tolist()


def test_suppression_far_from_the_origin_keeps_classes_apart() -> None:
    same = (4000.0, 4000.0, 4010.0, 4010.0)
    found = _found([(*same, 0.9, 0), (*same, 0.8, 79), (*same, 0.7, 0)])
    kept = suppress(found, Rules(0.0, 0.7, 300, multi_label=True))
    assert kept.classes.tolist() == [0, 79]


def _raw(*anchors: tuple[float, ...]) -> np.ndarray:
    return np.array(anchors, np.float32).T.copy()


def test_decode_with_one_or_several_labels() -> None:
    raw = _raw((10, 20, 4, 6, 0.5, 0.75), (30, 30, 2, 2, 0.2, 0.1), (5, 5, 2, 2, 0.9, 0.0))
    several = decode(raw, Rules(0.25, 0.7, 300, multi_label=True))
    assert several.scores.tolist() == pytest.approx([0.9, 0.75, 0.5])
    assert several.classes.tolist() == [0, 1, 0]
    assert several.boxes[1].tolist() == [8, 17, 12, 23]
    one = decode(raw, Rules(0.25, 0.7, 300, multi_label=False))
    assert one.scores.tolist() == pytest.approx([0.9, 0.75])
    assert one.classes.tolist() == [0, 1]
    at = decode(raw, Rules(0.75, 0.7, 300, multi_label=False))
    assert len(at) == 1  # the threshold itself is not above the threshold


def test_nothing_found() -> None:
    box = letterbox(np.zeros((10, 20, 3), np.uint8), ImageShape.square(32))
    for multi_label in (True, False):
        found = detect(_raw((1, 1, 1, 1, 0.0)), Rules(0.25, 0.7, 300, multi_label), box, "anchors")
        assert (len(found), found.boxes.shape) == (0, (0, 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([32, 64, 96]))
def test_letterbox_maps_points_there_and_back(width: int, height: int, imgsz: int) -> None:
    box = letterbox(np.full((height, width, 3), 7, np.uint8), ImageShape.square(imgsz))
    assert box.pixels.shape == (imgsz, imgsz, 3)
    corners = np.array([[0, 0, width, height]], np.float32)
    there = corners * (box.scale * 2) + np.array([box.left, box.top] * 2)
    assert to_original(there.astype(np.float32), box) == pytest.approx(corners, abs=1e-3)
    assert there.min() >= 0
    assert there.max() <= imgsz + 1
    inside = box.pixels[box.top : imgsz - box.top or None, box.left : imgsz - box.left or None]
    assert (box.pixels == FILL).sum() + (box.pixels == 7).sum() == box.pixels.size
    assert inside.size


def test_letterbox_of_a_wide_image() -> None:
    box = letterbox(np.zeros((48, 64, 3), np.uint8), ImageShape.square(64))
    assert (box.scale, box.left, box.top) == ((1.0, 1.0), 0, 8)
    assert (box.pixels[:8] == FILL).all()
    assert (box.pixels[8:56] == 0).all()
    assert to_original(np.array([[-5, 0, 70, 64]], np.float32), box).tolist() == [[0, 0, 64, 48]]
    tensor = to_tensor(box.pixels)
    assert (tensor.shape, tensor.dtype, tensor[0, 0, 0, 0]) == (
        (1, 3, 64, 64),
        np.float32,
        np.float32(FILL / 255),
    )


TRUTH = Truth((Box(0, 0.5, 0.5, 0.2, 0.2),), 100, 100)  # 40..60 in both directions
HIT = (40, 40, 60, 60)


def test_ap_of_a_perfect_detection() -> None:
    score = average_precision([TRUTH], [_found([(*HIT, 0.9, 0)])], 2)
    assert (score.map50_95, score.map50) == (1.0, 1.0)
    assert score.per_class[0] == 1.0
    assert np.isnan(score.per_class[1])


def test_ap_by_overlap() -> None:
    shifted = (41, 40, 61, 60)  # IoU 19 / 21 = 0.905: right for the 9 thresholds up to 0.9
    score = average_precision([TRUTH], [_found([(*shifted, 0.9, 0)])], 1)
    assert (score.map50, score.map50_95) == (1.0, pytest.approx(0.9))


def test_ap_with_a_better_scored_mistake() -> None:
    score = average_precision([TRUTH], [_found([(0, 0, 9, 9, 0.95, 0), (*HIT, 0.9, 0)])], 1)
    assert score.map50 == pytest.approx(0.5)  # precision 1/2 at every recall


def test_ap_with_a_missed_object() -> None:
    truth = Truth((*TRUTH.boxes, Box(0, 0.1, 0.1, 0.1, 0.1)), 100, 100)
    score = average_precision([truth], [_found([(*HIT, 0.9, 0)])], 1)
    assert score.map50 == pytest.approx(0.5)  # recall ends at 1/2


def test_ap_over_images_and_classes() -> None:
    other = Truth((Box(1, 0.5, 0.5, 0.2, 0.2),), 100, 100)
    found = [_found([(*HIT, 0.9, 0)]), _found([(*HIT, 0.9, 0)])]  # the second is of another class
    score = average_precision([TRUTH, other], found, 3)
    assert score.per_class[:2] == (1.0, 0.0)
    assert score.map50 == pytest.approx(0.5)


def test_ap_without_detections_or_labels() -> None:
    nothing = _found([])
    assert average_precision([TRUTH], [nothing], 2).map50 == 0.0
    empty = Truth((), 100, 100)
    for found in (nothing, _found([(*HIT, 0.9, 0)])):
        assert np.isnan(average_precision([empty], [found], 2).map50)


def test_ap_by_object_size() -> None:
    large = Truth((*TRUTH.boxes, Box(0, 0.5, 0.5, 0.98, 0.98)), 100, 100)  # 20 x 20 and 98 x 98
    score = average_precision([large], [_found([(*HIT, 0.9, 0)])], 1)
    small, medium, big = score.by_size
    assert (small, big) == (1.0, 0.0)
    assert np.isnan(medium)
    nothing = average_precision([large], [_found([])], 1).by_size
    assert (nothing[0], nothing[2]) == (0.0, 0.0)
    assert np.isnan(nothing[1])


def _scene(lost: int, count: int = 60) -> tuple[list[Truth], list[Detections], list[Detections]]:
    """Labels of `count` images, a model that finds all, and one that misses the first `lost`."""
    hit, miss = _found([(*HIT, 0.9, 0)]), _found([(0, 0, 9, 9, 0.9, 0)])
    return [TRUTH] * count, [hit] * count, [miss] * lost + [hit] * (count - lost)


def _interval(
    truths: list[Truth], source: list[Detections], artifact: list[Detections]
) -> tuple[float, float]:
    found = drop_intervals(matches(truths, source, 1), matches(truths, artifact, 1)).overall
    assert found is not None
    return found


def test_interval_of_a_drop_covers_the_drop_and_tells_loss_from_chance() -> None:
    truths, source, worse = _scene(lost=12)
    drop = 1 - average_precision(truths, worse, 1).map50_95
    low, high = _interval(truths, source, worse)
    assert 0 < low < drop < high < 2 * drop
    low, high = _interval(truths, source, _scene(lost=1)[2])
    assert (low, high > 0) == (0.0, True)  # a third of all draws leave the one image out


def test_interval_of_a_drop_is_paired_and_repeatable() -> None:
    truths, _, worse = _scene(lost=12)
    assert _interval(truths, worse, worse) == (0.0, 0.0)
    assert _interval(truths, *_scene(6)[1:]) == _interval(truths, *_scene(6)[1:])
    empty = [_found([])] * len(truths)
    assert _interval(truths, worse, empty)[1] < 1
    unlabelled = [Truth((), 100, 100)] * len(truths)
    matched = matches(unlabelled, worse, 1)
    assert drop_intervals(matched, matched) == Intervals(None, (None,))


def test_fidelity_takes_the_source_models_sure_detections_for_truth() -> None:
    sure, unsure = (*HIT, 0.9, 0), (10, 10, 30, 30, 0.2, 0)
    tally = Tally(
        Detect(("one", "two")), [Truth((), 100, 100)], [_found([sure, unsure])], [_found([sure])]
    )
    assert tally.fidelity() == (Measure(Key("fidelity"), None, 1.0, count=1),)
    tally.artifact = [_found([(*HIT, 0.9, 1)])]  # the right box, another class
    assert tally.fidelity() == (Measure(Key("fidelity"), None, 0.0, count=1),)
    tally.source = [_found([unsure])]
    assert tally.fidelity()[0].artifact is None


def test_memory_does_not_grow_with_the_number_of_images(
    world: World, dataset_in: Callable[..., Path]
) -> None:
    from yolodeploy.execution.runner import Runner
    from yolodeploy.measure.evidence import obtain_evidence
    from yolodeploy.store.store import Store
    from yolodeploy.system.console import Console

    dataset_in(world.root / "data", train=2, val=160)
    peaks = {}
    for images in (4, 16, 160):  # the first warms caches up
        world.recipe(
            ("{split: val}", f"{{split: val, images: {images}}}"), ("imgsz: 64", "imgsz: 128")
        )
        runner = Runner(world.plan(), Store(world.cache, print), Console(-1))
        runner.final()
        runner.float_export(0)
        tracemalloc.start()
        obtain_evidence(runner, LOCAL)
        peaks[images] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    pixels = 128 * 128 * 3 * 4  # of one image
    kept = pixels / 8  # labels, detections and their matches, of which every image has some
    assert peaks[160] < peaks[16] + (160 - 16) * kept, peaks
