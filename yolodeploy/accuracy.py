"""What an artifact loses, from the detections of source and artifact on the same images.

Against the labels: AP of both, the drop with its interval, by class and by object size. Without
labels: fidelity, the AP of the artifact's detections against the source model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yolodeploy.backend import Predictor
from yolodeploy.dataset import Box, Dataset
from yolodeploy.detect import Detections, Floats, detect
from yolodeploy.errors import DataError
from yolodeploy.images import letterboxed_file, to_tensor
from yolodeploy.metrics import Precision, Truth, average_precision, drop_interval
from yolodeploy.rules import APP, EVALUATION

_SIZES = ("small", "medium", "large")
_UNLABELLED = {"reason": "the evaluation images have no labels"}
_NOTHING = {"source": None, "artifact": None, "drop": None}


@dataclass
class Differences:
    """Running maximum and mean of the absolute difference of raw outputs."""

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, difference: Floats) -> None:
        """Take in one image's absolute differences."""
        self.maximum = max(self.maximum, float(difference.max()))
        self.total += float(difference.sum(dtype="float64"))
        self.count += difference.size

    def summary(self) -> dict[str, float]:
        """Maximum and mean so far."""
        return {"max": round(self.maximum, 6), "mean": round(self.total / max(self.count, 1), 9)}


@dataclass
class Tally:
    """What is kept of each image: labels, detections and differences, but no pixels."""

    truths: list[Truth] = field(default_factory=list)
    source: list[Detections] = field(default_factory=list)
    artifact: list[Detections] = field(default_factory=list)
    boxes: Differences = field(default_factory=Differences)
    scores: Differences = field(default_factory=Differences)

    def differences(self) -> dict[str, Any]:
        """Differences of the raw outputs: of all, of the boxes in pixels, and of the scores."""
        boxes, scores = self.boxes, self.scores
        both = Differences(
            max(boxes.maximum, scores.maximum),
            boxes.total + scores.total,
            boxes.count + scores.count,
        )
        return {**both.summary(), "boxes_px": boxes.summary(), "scores": scores.summary()}


def accuracy(tally: Tally, names: tuple[str, ...], *, labelled: bool) -> dict[str, Any]:
    """Everything that the report says of accuracy."""
    return {
        "fidelity": fidelity(tally, len(names)),
        **(_labelled(tally, names) if labelled else _without_labels()),
    }


def scores(tally: Tally, names: tuple[str, ...], *, labelled: bool) -> dict[str, Any]:
    """MAP50-95 and fidelity of the artifact alone; None with a reason where there is none."""
    whole: dict[str, Any] = {"value": None, **_UNLABELLED}
    if labelled:
        value = average_precision(tally.truths, tally.artifact, len(names)).map50_95
        nothing = {"value": None, "reason": "no evaluation image shows an object"}
        whole = nothing if math.isnan(value) else {"value": round(value, 6)}
    return {"map50_95": whole, "fidelity": fidelity(tally, len(names))}


def map50_95(predict: Predictor, view: Dataset, imgsz: int) -> float:
    """MAP50-95 of an opened artifact on labelled images; NaN without labels."""
    truths, found = [], []
    for image in view.images:
        box = letterboxed_file(image, imgsz)
        found.append(detect(predict(to_tensor(box.pixels))[0], EVALUATION, box))
        truths.append(Truth(view.boxes(image), box.width, box.height))
    return average_precision(truths, found, len(view.names)).map50_95


def required_score(value: float, view: str) -> float:
    """Return a float model's mAP, which compressed forms are held to; DataError if it says nothing."""
    if math.isnan(value):
        raise DataError(f"no {view} image has a labelled object, so there is no mAP to compare.")
    if value == 0:
        raise DataError(
            f"the float model finds none of the labelled objects of the {view} images, so no drop "
            "can be measured: wrong weights, labels or imgsz?"
        )
    return value


def fidelity(tally: Tally, classes: int) -> dict[str, Any]:
    """AP50-95 of the artifact's detections, taking as truth what the source model finds.

    What the source finds with less than the confidence that an app would ask for is no truth, but
    the artifact may find it too: it ranks below.
    """
    truths = [
        _found_as_truth(found, truth)
        for found, truth in zip(tally.source, tally.truths, strict=True)
    ]
    value = average_precision(truths, tally.artifact, classes).map50_95
    if math.isnan(value):
        reason = f"the source model finds nothing with a confidence above {APP.confidence}"
        return {"value": None, "reason": reason}
    return {"value": round(value, 6), "objects": sum(len(truth.boxes) for truth in truths)}


def _found_as_truth(found: Detections, image: Truth) -> Truth:
    sure = found.scores > APP.confidence
    size = np.array([image.width, image.height])
    corners = found.boxes[sure].astype(np.float64)
    centres, sides = (corners[:, 2:] + corners[:, :2]) / 2 / size, corners[:, 2:] - corners[:, :2]
    rows = zip(found.classes[sure].tolist(), centres.tolist(), (sides / size).tolist(), strict=True)
    boxes = tuple(Box(cls, *centre, *side) for cls, centre, side in rows)
    return Truth(boxes, image.width, image.height)


def _without_labels() -> dict[str, Any]:
    row = {**_NOTHING, **_UNLABELLED}
    return {"map50_95": row, "map50": row, "per_class": [], "by_size": []}


def _labelled(tally: Tally, names: tuple[str, ...]) -> dict[str, Any]:
    source = average_precision(tally.truths, tally.source, len(names))
    artifact = average_precision(tally.truths, tally.artifact, len(names))
    return {
        "map50_95": {
            **_compare(source.map50_95, artifact.map50_95, "an object"),
            **_interval(tally, len(names)),
        },
        "map50": _compare(source.map50, artifact.map50, "an object"),
        "per_class": _per_class(source, artifact, names, tally.truths),
        "by_size": [
            {"name": name, **_compare(ours, theirs, f"a {name} object")}
            for name, ours, theirs in zip(_SIZES, source.by_size, artifact.by_size, strict=True)
        ],
    }


def _interval(tally: Tally, classes: int) -> dict[str, Any]:
    low, high = drop_interval(tally.truths, tally.source, tally.artifact, classes)
    return {} if math.isnan(low) else {"drop_90": [round(low, 6), round(high, 6)]}


def _per_class(
    source: Precision, artifact: Precision, names: tuple[str, ...], truths: Sequence[Truth]
) -> list[Mapping[str, Any]]:
    counts = [0] * len(names)
    for truth in truths:
        for box in truth.boxes:
            counts[box.cls] += 1
    pairs = zip(names, counts, source.per_class, artifact.per_class, strict=True)
    return [
        {"name": name, "objects": count, **_compare(ours, theirs)}
        for name, count, ours, theirs in pairs
    ]


def _compare(source: float, artifact: float, what: str = "this class") -> dict[str, Any]:
    if math.isnan(source):
        return {**_NOTHING, "reason": f"no evaluation image shows {what}"}
    return {
        "source": round(source, 6),
        "artifact": round(artifact, 6),
        "drop": round(source - artifact, 6),
    }
