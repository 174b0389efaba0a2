"""One judge for ours and theirs: the project's own decoding, NMS and mAP on any opened model."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolodeploy.backend import OUTPUT, layout_of
from yolodeploy.data.dataset import Dataset
from yolodeploy.data.images import letterboxed_file, to_tensor
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Key, Tally, accuracy, one
from yolodeploy.tasks.detection import Detect

# float32 RGB [1, 3, H, W] in 0..1 -> raw head output [1, 4 + classes, anchors], boxes in pixels
Predict = Callable[[Any], Any]


@dataclass(frozen=True)
class Verdict:
    """Accuracy of a model against the labels and against the source model."""

    map50_95: float
    drop: float
    low: float
    high: float
    fidelity: float

    def __str__(self) -> str:
        return (
            f"mAP50-95 {self.map50_95:.4f} (drop {self.drop:+.4f}, 90 % {self.low:+.4f} to "
            f"{self.high:+.4f}), fidelity {self.fidelity:.4f}"
        )


class Judge:
    """Holds models against the labels of a view and against the source model, run once."""

    def __init__(
        self, source: Predict, view: Dataset, imgsz: ImageShape, head: Head = "one-to-many"
    ) -> None:
        self._view, self._imgsz = view, imgsz
        self._task = Detect(view.names)
        self._rules = self._task.evaluation.for_head(head)
        self._source = self._detections(source)
        self._truths = [self._truth(image) for image in view.images]

    def __call__(self, predict: Predict) -> Verdict:
        """Judge a model."""
        tally = Tally(self._task, self._truths, self._source, self._detections(predict))
        found = accuracy(tally, labelled=True)
        row, fidelity = one(found, Key.MAP50_95), one(found, Key.FIDELITY)
        low, high = row.interval or (math.nan, math.nan)
        return Verdict(row.artifact, row.loss, low, high, fidelity.artifact)

    def _detections(self, predict: Predict) -> list[Any]:
        found = []
        for image in self._view.images:
            box = letterboxed_file(image, self._imgsz)
            raw = np.asarray(predict(to_tensor(box.pixels)), np.float32)[0]
            layout = layout_of(predict)
            found.append(self._task.found({OUTPUT: raw}, self._rules, box, layout))
        return found

    def _truth(self, image: Any) -> Any:
        box = letterboxed_file(image, self._imgsz)
        return self._task.truth(self._view, image, box.width, box.height)


def latency_ratio(ours: Predict, theirs: Predict, tensor: Any, rounds: int = 60) -> float:
    """Median latency of ours over theirs, the two taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 3):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[which](tensor)
            times[which].append(time.perf_counter() - start)
    return statistics.median(times[0][3:]) / statistics.median(times[1][3:])
