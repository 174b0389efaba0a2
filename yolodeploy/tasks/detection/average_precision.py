"""Average precision, by the COCO evaluation of `faster-coco-eval`.

Precision is sampled at the midpoints of 100 recall bins, not at COCO's 101 points, which count
recall 0 as a point of its own and so add up to 0.005 where a class has few objects. See
docs/decisions/003-map.md for the comparison with Ultralytics' `val`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Box
from yolodeploy.tasks.detection.postprocess import Detections, Floats
from yolodeploy.tasks.detection.thresholds import EVALUATION

RECALLS = (np.arange(100) + 0.5) / 100
MAX_DRAWS, MIN_DRAWS = 400, 100
SMALL, LARGE = 32**2, 96**2  # areas in square pixels that bound COCO's medium objects


@dataclass(frozen=True)
class Truth:
    """The labelled objects of one image, and the size of the image in pixels."""

    boxes: tuple[Box, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Precision:
    """Average precision in 0..1: over all classes that have labels, per class, and by object size.

    `by_size` is AP50-95 of small, medium and large objects: below 32 x 32 pixels of the original image, below
    96 x 96, and above, as COCO divides them (by the area of the box, because there are no masks). NaN without
    labels.
    """

    map50_95: float
    map50: float
    per_class: tuple[float, ...]
    by_size: tuple[float, float, float]


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int
) -> Precision:
    """AP of detections against labels, image by image in the same order."""
    if not any(len(detections) for detections in found):
        return _nothing_found(truths, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(truths, found, classes)
        evaluation.evaluate()
        evaluation.accumulate()
    return _summary(_average(evaluation.eval["precision"]))


def drop_interval(
    truths: Sequence[Truth],
    source: Sequence[Detections],
    artifact: Sequence[Detections],
    classes: int,
    seed: int = 0,
) -> tuple[float, float]:
    """The 90 % interval of the drop of mAP50-95, by a paired bootstrap over the images.

    Both models are scored on the same images, drawn with replacement (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13: percentile intervals). If the interval contains 0, the
    loss may be chance.
    """
    scorers = [_Resampled(truths, found, classes) for found in (source, artifact)]
    random = np.random.default_rng(seed)
    count = len(truths)
    drawn = [random.integers(0, count, count) for _ in range(draws(count))]
    drops = np.array(
        [scorers[0].map50_95(images) - scorers[1].map50_95(images) for images in drawn]
    )
    drops = drops[~np.isnan(drops)]  # of draws without any label
    if not len(drops):
        return float("nan"), float("nan")
    low, high = np.percentile(drops, (5, 95))
    return float(low), float(high)


def draws(images: int) -> int:
    """The number of draws: fewer for many images, whose interval is narrow and whose draws are slow."""
    return min(MAX_DRAWS, max(MIN_DRAWS, 100_000 // images))


class _Resampled:
    """Matches detections with the labels once, and scores any draw of images."""

    def __init__(self, truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> None:
        self._nothing = not any(len(detections) for detections in found)
        if self._nothing:
            return
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation = _evaluation(truths, found, classes, separate_eval=True)
            self._evaluation.params.areaRng = self._evaluation.params.areaRng[:1]
            self._evaluation.params.areaRngLbl = ["all"]
            self._evaluation.evaluate()
        matched = np.array(self._evaluation._evalImgs_cpp, object)  # noqa: SLF001 - no public name
        self._matched = matched.reshape(-1, len(truths))  # by class, then image

    def map50_95(self, images: NDArray[np.int64]) -> float:
        """The mAP50-95 on the images with these numbers, each as often as it occurs."""
        if self._nothing:
            return 0.0
        self._evaluation._evalImgs_cpp = list(self._matched[:, images].ravel())  # noqa: SLF001
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation.accumulate()
        return float(_mean(_average(self._evaluation.eval["precision"])[:, :, 0]))


def _evaluation(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int, **options: bool
) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    coco = COCO(_ground_truth(truths, classes))
    evaluation = COCOeval_faster(coco, coco.loadRes(_results(found)), "bbox", **options)
    evaluation.params.maxDets = [EVALUATION.limit]
    evaluation.params.recThrs = RECALLS
    return evaluation


def _average(precision: Floats) -> Floats:
    """AP `[IoU thresholds, classes, sizes]` from precision at recalls; NaN without labels."""
    table = precision[..., 0]  # IoU thresholds, recalls, classes, sizes
    average: Floats = np.where(table < 0, np.nan, table).mean(axis=1)
    return average


def _mean(values: Floats) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _summary(table: Floats) -> Precision:
    """The means of AP `[IoU thresholds, classes, sizes]`, which is NaN for a class without labels."""
    all_sizes = table[:, :, 0]
    small, medium, large = (_mean(table[:, :, size]) for size in (1, 2, 3))
    per_class = tuple(all_sizes.mean(axis=0).tolist())
    return Precision(_mean(all_sizes), _mean(all_sizes[0]), per_class, (small, medium, large))


def _nothing_found(truths: Sequence[Truth], classes: int) -> Precision:
    """AP 0 for every class and size that has labels."""
    table = np.full((10, classes, 4), np.nan, np.float32)
    for truth in truths:
        for box in truth.boxes:
            area = box.width * truth.width * box.height * truth.height
            table[:, box.cls, [0, 1 + int(area >= SMALL) + int(area >= LARGE)]] = 0
    return _summary(table)


def _ground_truth(truths: Sequence[Truth], classes: int) -> dict[str, object]:
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, truth in enumerate(truths, 1):
        images.append({"id": number, "width": truth.width, "height": truth.height})
        for box in truth.boxes:
            width, height = box.width * truth.width, box.height * truth.height
            left, top = box.x * truth.width - width / 2, box.y * truth.height - height / 2
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": box.cls,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index, "name": str(index)} for index in range(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _results(found: Sequence[Detections]) -> Floats:
    """Detections as rows image, left, top, width, height, score, class."""
    rows = []
    for number, detections in enumerate(found, 1):
        boxes = detections.boxes.astype(np.float64)
        sizes = boxes[:, 2:] - boxes[:, :2]
        numbers = np.full(len(detections), number)
        rows.append(np.c_[numbers, boxes[:, :2], sizes, detections.scores, detections.classes])
    table: Floats = np.concatenate(rows)
    return table
