"""What an artifact loses, from the detections of source and artifact on the same images.

Against the labels: the AP of both models, and the drop with its interval, by class and by object size. Without
labels: fidelity, the AP of the artifact's detections against the source model's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from yolodeploy.backend import Predictor
from yolodeploy.data import Box, Dataset
from yolodeploy.errors import DataError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.average_precision import drop_intervals, mean_precision, precision
from yolodeploy.tasks.detection.evaluate import Seen, evaluate
from yolodeploy.tasks.detection.matching import Matches, Truth
from yolodeploy.tasks.detection.postprocess import Detections, Floats
from yolodeploy.tasks.detection.rows import best_rows, row_differences
from yolodeploy.tasks.measures import USUAL, Key, Measure
from yolodeploy.tasks.thresholds import APP

_SIZES = ("small", "medium", "large")
_UNLABELLED = "the evaluation images have no labels"
_OUTPUTS = ("boxes_px", "scores")


@dataclass
class Differences:
    """Running maximum and mean of the absolute differences of outputs."""

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, difference: Floats) -> None:
        """Add one image's absolute differences."""
        self.maximum = max(self.maximum, float(difference.max(initial=0)))
        self.total += float(difference.sum(dtype="float64"))
        self.count += difference.size

    def measures(self, group: str, images: int) -> tuple[Measure, Measure]:
        """Maximum and mean of so many images."""
        maximum, mean = round(self.maximum, 6), round(self.total / max(self.count, 1), 9)
        return (
            Measure(
                Key.OUTPUT_DIFF, None, maximum, higher_is_better=False, group=group, count=images
            ),
            Measure(
                Key.OUTPUT_DIFF_MEAN, None, mean, higher_is_better=False, group=group, count=images
            ),
        )


@dataclass
class Tally:
    """What is kept of each image: labels, detections and differences, but no pixels.

    `compared` is the number of images whose raw outputs were compared.
    """

    truths: list[Truth] = field(default_factory=list)
    source: list[Detections] = field(default_factory=list)
    artifact: list[Detections] = field(default_factory=list)
    boxes: Differences = field(default_factory=Differences)
    scores: Differences = field(default_factory=Differences)
    compared: int = 0

    def add(self, seen: Seen, source: Floats | None = None) -> None:
        """Add an image that the artifact, the last of the models, was run on.

        `source` is the source model's anchors `[4 + classes, anchors]`, if the two are compared on this image.
        """
        self.truths.append(seen.truth)
        self.artifact.append(seen.found(-1))
        if source is not None:
            boxes, scores = _differences(source, seen)
            self.boxes.add(boxes)
            self.scores.add(scores)
            self.compared += 1

    def differences(self) -> Iterator[Measure]:
        """Differences of the outputs: all, the boxes in pixels, and the scores."""
        boxes, scores = self.boxes, self.scores
        maximum, total = max(boxes.maximum, scores.maximum), boxes.total + scores.total
        both = Differences(maximum, total, boxes.count + scores.count)
        for differences, group in zip((both, boxes, scores), ("", *_OUTPUTS), strict=True):
            yield from differences.measures(group, self.compared)


def _differences(source: Floats, seen: Seen) -> tuple[Floats, Floats]:
    """How far the artifact's boxes (px) and scores are from the source model's.

    Anchors are compared number by number. If the artifact ends in rows, the source's anchors become rows by the same
    selection, and pairs are compared: see `pair_rows`.
    """
    artifact = seen.outputs[-1]
    if seen.layouts[-1] == "rows":
        return row_differences(best_rows(source), artifact)
    difference = abs(artifact - source)
    return difference[:4], difference[4:]


def map50_95(model: Predictor, view: Dataset, imgsz: ImageShape, head: Head) -> float:
    """The mAP50-95 of an opened artifact on labelled images; NaN without labels.

    `head` is the one that gives its output.
    """
    tally = Tally()
    for seen in evaluate(view, imgsz, [model], head=head):
        tally.add(seen)
    return mean_precision(Matches(tally.truths, tally.artifact, len(view.names)))


def accuracy(
    tally: Tally, names: tuple[str, ...], *, labelled: bool, confidence: float = USUAL
) -> tuple[Measure, ...]:
    """Everything that a report says about accuracy, drops with intervals of the given confidence."""
    unlabelled = (Measure(key, None, None, reason=_UNLABELLED) for key in (Key.MAP50_95, Key.MAP50))
    against_labels = _against_labels(tally, names, confidence) if labelled else unlabelled
    return (*against_labels, fidelity(tally, len(names)), *tally.differences())


def scores(tally: Tally, names: tuple[str, ...], *, labelled: bool) -> tuple[Measure, Measure]:
    """The mAP50-95 and fidelity of the artifact alone."""
    if not labelled:
        overall = Measure(Key.MAP50_95, None, None, reason=_UNLABELLED)
    else:
        value = mean_precision(Matches(tally.truths, tally.artifact, len(names)))
        overall = _measure(Key.MAP50_95, None, value, "an object")
    return overall, fidelity(tally, len(names))


def required_score(value: float, view: str) -> float:
    """Return a float model's mAP, the baseline of compressed forms; DataError if it is no baseline."""
    if math.isnan(value):
        raise DataError(f"no {view} image has a labelled object, so mAP cannot be measured.")
    if value == 0:
        raise DataError(
            f"the float model finds none of the labelled objects of the {view} images, so no drop "
            "can be measured: wrong weights, labels or imgsz?"
        )
    return value


def fidelity(tally: Tally, classes: int) -> Measure:
    """AP50-95 of the artifact's detections, with the source model's as ground truth.

    Only detections above the confidence that an app asks for count as truth. The artifact may find the others
    too: they rank below.
    """
    pairs = zip(tally.source, tally.truths, strict=True)
    truths = [_as_truth(found, truth) for found, truth in pairs]
    value = mean_precision(Matches(truths, tally.artifact, classes))
    if math.isnan(value):
        reason = f"the source model finds nothing with a confidence above {APP.confidence}"
        return Measure(Key.FIDELITY, None, None, reason=reason)
    return Measure(Key.FIDELITY, None, value, count=sum(len(truth.boxes) for truth in truths))


def _as_truth(found: Detections, image: Truth) -> Truth:
    """Detections as labels."""
    confident = found.scores > APP.confidence
    size = np.array([image.width, image.height])
    corners = found.boxes[confident].astype(np.float64)
    centres, sides = (corners[:, 2:] + corners[:, :2]) / 2 / size, corners[:, 2:] - corners[:, :2]
    rows = zip(
        found.classes[confident].tolist(), centres.tolist(), (sides / size).tolist(), strict=True
    )
    boxes = tuple(Box(cls, *centre, *side) for cls, centre, side in rows)
    return Truth(boxes, image.width, image.height)


def _against_labels(tally: Tally, names: tuple[str, ...], confidence: float) -> Iterator[Measure]:
    pair = [Matches(tally.truths, found, len(names)) for found in (tally.source, tally.artifact)]
    source, artifact = map(precision, pair)
    drops = drop_intervals(pair[0], pair[1], confidence)
    overall = _measure(Key.MAP50_95, source.map50_95, artifact.map50_95, "an object")
    yield _between(overall, drops.overall, confidence)
    yield _measure(Key.MAP50, source.map50, artifact.map50, "an object")
    for name, before, after in zip(_SIZES, source.by_size, artifact.by_size, strict=True):
        yield _measure(Key.SIZE_AP, before, after, f"a {name} object", group=name)
    counts = Counter(box.cls for truth in tally.truths for box in truth.boxes)
    pairs = zip(names, source.per_class, artifact.per_class, drops.per_class, strict=True)
    for cls, (name, before, after, interval) in enumerate(pairs):
        row = _measure(Key.CLASS_AP, before, after, "this class", group=name)
        yield replace(_between(row, interval, confidence), count=counts[cls])


def _between(measure: Measure, interval: tuple[float, float] | None, confidence: float) -> Measure:
    """A measure with the interval of its loss, if it has a loss and an interval."""
    if interval is None or measure.loss is None:
        return measure
    low, high = interval
    return replace(measure, interval=(round(low, 6), round(high, 6)), confidence=confidence)


def _measure(
    key: Key,
    source: float | None,
    artifact: float,
    object_: str,
    *,
    group: str = "",
) -> Measure:
    if math.isnan(artifact):
        reason = f"no evaluation image shows {object_}"
        return Measure(key, None, None, group=group, reason=reason)
    return Measure(key, source, artifact, group=group)
