"""Average precision and its intervals against COCO's own evaluation, run here on the same detections."""

from __future__ import annotations

import time
import tracemalloc

import coco_reference
import numpy as np
import pytest

from yolodeploy.data import Box
from yolodeploy.tasks.average_precision import (
    LEAST_IMAGES,
    Precision,
    draws,
    drop_intervals,
)
from yolodeploy.tasks.detection.matching import Truth, average_precision, matches
from yolodeploy.tasks.detection.postprocess import Detections

SIDE = 400  # pixels of an image
Models = tuple[list[Truth], list[Detections], list[Detections]]


def _scene(seed: int, images: int, classes: int, *, grid: int = 0, objects: int = 12) -> Models:
    """Labels, and two models that find most of them more or less well and much that is not there.

    Boxes lie on a grid of so many pixels (0: anywhere), so that many overlaps are equal. No two scores are.
    """
    random = np.random.default_rng(seed)
    truths = []
    models: tuple[list[Detections], ...] = ([], [])
    scores = iter(random.permutation(images * 200) / (images * 200.0) * 0.9 + 0.05)
    for _ in range(images):
        count = int(random.integers(0, objects))
        sides = random.choice([14, 30, 32, 60, 96, 150], (count, 2))
        corners = random.uniform(0, SIDE - 150, (count, 2))
        boxes = np.c_[corners, corners + sides]
        kinds = random.integers(0, classes, count)
        boxes = np.round(boxes / grid) * grid if grid else boxes
        truths.append(_truth(boxes, kinds))
        for spread, model in zip((2, 5), models, strict=True):
            again = np.repeat(np.arange(count), random.integers(0, 4, count))
            found = boxes[again] + random.normal(0, spread, (len(again), 4))
            found = np.concatenate([found, np.sort(random.uniform(0, SIDE, (5, 4)))])
            found = np.round(found / grid) * grid if grid else found
            named = np.concatenate([kinds[again], random.integers(0, classes, 5)])
            named = np.where(random.random(len(named)) < 0.1, 0, named)
            rated = np.sort([next(scores) for _ in named])[::-1]
            rated = random.permuted(rated)
            order = np.argsort(-rated)
            model.append(
                Detections(
                    found[order].astype(np.float32), rated[order].astype(np.float32), named[order]
                )
            )
    return truths, *models


def _truth(boxes: np.ndarray, kinds: np.ndarray) -> Truth:
    centres, sides = (boxes[:, 2:] + boxes[:, :2]) / 2 / SIDE, (boxes[:, 2:] - boxes[:, :2]) / SIDE
    rows = zip(kinds.tolist(), centres.tolist(), sides.tolist(), strict=True)
    return Truth(tuple(Box(cls, *centre, *side) for cls, centre, side in rows), SIDE, SIDE)


def _figures(found: Precision) -> list[float]:
    return [found.map50_95, found.map50, *found.by_size, *found.per_class]


@pytest.mark.parametrize("grid", [0, 4, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_average_precision_is_that_of_coco(seed: int, grid: int) -> None:
    truths, *models = _scene(seed, images=25, classes=4, grid=grid)
    for found in models:
        every, *sizes = np.moveaxis(coco_reference.table(truths, found, 5), 2, 0)
        wanted = [coco_reference.mean(every), coco_reference.mean(every[0])]
        wanted += [coco_reference.mean(size) for size in sizes] + every.mean(0).tolist()
        ours = _figures(average_precision(truths, found, 5))
        assert ours == pytest.approx(wanted, abs=1e-12, nan_ok=True)
        assert np.isnan(ours[-1])  # no object of the last class is there


@pytest.mark.parametrize(("images", "classes"), [(40, 3), (400, 2)])
def test_intervals_are_those_of_accumulating_every_draw_anew(
    images: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "yolodeploy.tasks.average_precision.MAX_DRAWS"
    monkeypatch.setattr(name, 100)  # the reference is slow
    truths, source, artifact = _scene(3, images, classes, objects=4)
    scorers = [coco_reference.Resampled(truths, found, classes) for found in (source, artifact)]
    random = np.random.default_rng(0)
    drops, by_class = [], []
    for _ in range(draws(images)):
        drawn = random.integers(0, images, images)
        before, after = (scorer.table(drawn) for scorer in scorers)
        drops.append(coco_reference.mean(before) - coco_reference.mean(after))
        by_class.append((before - after).mean(axis=0))
    pair = [matches(truths, found, classes) for found in (source, artifact)]
    found = drop_intervals(pair[0], pair[1])
    assert found.overall == pytest.approx(np.percentile(drops, (5, 95)), abs=1e-9)
    wanted = np.nanpercentile(by_class, (5, 95), axis=0).T
    assert np.array(found.per_class) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("images", [1, LEAST_IMAGES - 1, LEAST_IMAGES])
def test_a_class_that_few_images_show_has_no_interval(images: int) -> None:
    truths, source, artifact = _scene(4, images=12, classes=1)
    for number in range(images):
        truths[number] = Truth((*truths[number].boxes, Box(1, 0.5, 0.5, 0.2, 0.2)), SIDE, SIDE)
    found = drop_intervals(matches(truths, source, 2), matches(truths, artifact, 2))
    assert found.per_class[0] is not None
    assert (found.per_class[1] is not None) == (images == LEAST_IMAGES)


def test_a_confidence_has_draws_beyond_both_ends() -> None:
    assert (draws(5000, 0.95), draws(5000, 0.99)) == (800, 4000)


def test_intervals_of_many_images_take_seconds_and_little_memory() -> None:
    truths, source, artifact = _scene(5, images=1000, classes=20)
    pair = [matches(truths, found, 20) for found in (source, artifact)]
    tracemalloc.start()
    start = time.process_time()
    assert drop_intervals(pair[0], pair[1]).overall is not None
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 3  # 0.3 as a rule; the calls of `accumulate` that this replaces took minutes
    assert peak < 60e6, peak
