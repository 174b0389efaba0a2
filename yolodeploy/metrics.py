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

import numpy as np

from yolodeploy.dataset import Box
from yolodeploy.detect import EVALUATION, Detections, Floats

RECALLS = (np.arange(100) + 0.5) / 100


@dataclass(frozen=True)
class Truth:
    """The labelled objects of one image, in its pixels; `width` and `height` are the image's."""

    boxes: tuple[Box, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Precision:
    """Average precision in 0..1: over all classes that have labels, and per class (NaN: no labels)."""

    map50_95: float
    map50: float
    per_class: tuple[float, ...]


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int
) -> Precision:
    """AP of detections against labels, image by image in the same order."""
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(_ground_truth(truths, classes))
        if not any(len(detections) for detections in found):
            return _nothing_found(truths, classes)
        evaluation = COCOeval_faster(coco, coco.loadRes(_results(found)), "bbox")
        evaluation.params.maxDets = [1, 10, EVALUATION.limit]
        evaluation.params.recThrs = RECALLS
        evaluation.evaluate()
        evaluation.accumulate()
    table = evaluation.eval["precision"][:, :, :, 0, 2]  # IoU thresholds, recalls, classes
    return _summary(np.where(table < 0, np.nan, table).mean(axis=1))


def _summary(table: Floats) -> Precision:
    """From AP `[IoU thresholds, classes]`, NaN where a class has no labels."""
    per_class = table.mean(axis=0)
    labelled = ~np.isnan(per_class)
    if not labelled.any():
        return Precision(float("nan"), float("nan"), tuple(per_class.tolist()))
    return Precision(
        float(per_class[labelled].mean()),
        float(table[0, labelled].mean()),
        tuple(per_class.tolist()),
    )


def _nothing_found(truths: Sequence[Truth], classes: int) -> Precision:
    labelled = {box.cls for truth in truths for box in truth.boxes}
    row = [0.0 if index in labelled else float("nan") for index in range(classes)]
    return _summary(np.tile(np.array(row, np.float32), (10, 1)))


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
        numbers = np.full((len(detections), 1), number)
        rows.append(
            np.hstack(
                [
                    numbers,
                    boxes[:, :2],
                    sizes,
                    detections.scores[:, None],
                    detections.classes[:, None],
                ]
            )
        )
    table: Floats = np.concatenate(rows)
    return table
