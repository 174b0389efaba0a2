"""The reference of average precision: faster-coco-eval, COCO's evaluation in C++, on the same detections."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from yolodeploy.tasks.detection.matching import Truth
from yolodeploy.tasks.detection.postprocess import Detections

RECALLS = (np.arange(100) + 0.5) / 100
Table = NDArray[np.float64]  # AP [IoU thresholds, classes, areas], NaN without labels


def table(truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> Table:
    """AP of all, small, medium and large objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(truths, found, classes)
        evaluation.evaluate()
        evaluation.accumulate()
    return _average(evaluation)


class Resampled:
    """Matches once, then accumulates the matches of any draw of images."""

    def __init__(self, truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation = _evaluation(truths, found, classes, separate_eval=True)
            self._evaluation.params.areaRng = self._evaluation.params.areaRng[:1]
            self._evaluation.params.areaRngLbl = ["all"]
            self._evaluation.evaluate()
        matched = np.array(self._evaluation._evalImgs_cpp, object)
        self._matched = matched.reshape(-1, len(truths))  # by class, then image

    def table(self, images: NDArray[np.int64]) -> Table:
        """AP `[IoU thresholds, classes]` on the images with these numbers, each as often as it occurs."""
        self._evaluation._evalImgs_cpp = list(self._matched[:, images].ravel())
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation.accumulate()
        return _average(self._evaluation)[:, :, 0]


def mean(values: Table) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _average(evaluation: Any) -> Table:
    precision = evaluation.eval["precision"][..., 0]  # IoU thresholds, recalls, classes, areas
    average: Table = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return average


def _evaluation(
    truths: Sequence[Truth], found: Sequence[Detections], classes: int, **options: bool
) -> Any:
    coco = COCO(_ground_truth(truths, classes))
    evaluation = COCOeval_faster(coco, coco.loadRes(_results(found)), "bbox", **options)
    evaluation.params.maxDets = [300]
    evaluation.params.recThrs = RECALLS
    return evaluation


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


def _results(found: Sequence[Detections]) -> NDArray[np.float64]:
    """Detections as rows image, left, top, width, height, score, class."""
    rows = []
    for number, detections in enumerate(found, 1):
        boxes = detections.boxes.astype(np.float64)
        sizes = boxes[:, 2:] - boxes[:, :2]
        numbers = np.full(len(detections), number)
        rows.append(np.c_[numbers, boxes[:, :2], sizes, detections.scores, detections.classes])
    return np.concatenate(rows)
