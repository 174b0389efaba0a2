"""What an artifact loses, from the detections of source and artifact on the same images.

Against the labels: the AP of both models, and the drop with its interval, by class and by object size. Without
labels: fidelity, the AP of the artifact's detections against the source model's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yolodeploy.backend import Predictor
from yolodeploy.data import Box, Dataset, Letterboxed, letterboxed_file, to_tensor
from yolodeploy.errors import DataError
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.average_precision import Truth, average_precision, drop_interval
from yolodeploy.tasks.detection.postprocess import Detections, Floats, detect
from yolodeploy.tasks.detection.thresholds import APP, EVALUATION
from yolodeploy.tasks.measures import Key, Measure

_SIZES = ("small", "medium", "large")
_UNLABELLED = "the evaluation images have no labels"
_OUTPUTS = ("boxes_px", "scores")


@dataclass(frozen=True)
class Seen:
    """One image, its labels, and the output of each model.

    `tensor` is float32 `[1, channels, height, width]` in 0..1; `outputs` are raw head outputs
    `[4 + classes, anchors]`, in the order of the models.
    """

    image: Path
    box: Letterboxed
    tensor: Floats
    truth: Truth
    outputs: tuple[Floats, ...]

    def found(self, which: int) -> Detections:
        """The detections of one model, with the thresholds of the evaluation."""
        return detect(self.outputs[which], EVALUATION, self.box)


def evaluate(
    view: Dataset,
    imgsz: ImageShape,
    *models: Predictor,
    progress: Callable[[float, str], None] = lambda _done, _text: None,
) -> Iterator[Seen]:
    """Run opened models on the same letterboxed images of a view, one image in memory at a time."""
    for number, image in enumerate(view.images, 1):
        box = letterboxed_file(image, imgsz)
        tensor = to_tensor(box.pixels)
        truth = Truth(view.boxes(image), box.width, box.height)
        yield Seen(image, box, tensor, truth, tuple(model(tensor)[0] for model in models))
        progress(number / len(view), f"{number}/{len(view)} images")


@dataclass
class Differences:
    """Running maximum and mean of the absolute differences of raw outputs."""

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, difference: Floats) -> None:
        """Add one image's absolute differences."""
        self.maximum = max(self.maximum, float(difference.max()))
        self.total += float(difference.sum(dtype="float64"))
        self.count += difference.size

    def measures(self, group: str) -> tuple[Measure, Measure]:
        """Maximum and mean so far."""
        maximum, mean = round(self.maximum, 6), round(self.total / max(self.count, 1), 9)
        return (
            Measure(Key.OUTPUT_DIFF, None, maximum, higher_is_better=False, group=group),
            Measure(Key.OUTPUT_DIFF_MEAN, None, mean, higher_is_better=False, group=group),
        )


@dataclass
class Tally:
    """What is kept of each image: labels, detections and differences, but no pixels."""

    truths: list[Truth] = field(default_factory=list)
    source: list[Detections] = field(default_factory=list)
    artifact: list[Detections] = field(default_factory=list)
    boxes: Differences = field(default_factory=Differences)
    scores: Differences = field(default_factory=Differences)

    def add(self, seen: Seen) -> None:
        """Add an image that the artifact was run on, perhaps after the source model."""
        self.truths.append(seen.truth)
        self.artifact.append(seen.found(-1))
        if len(seen.outputs) > 1:
            source, artifact = seen.outputs
            self.source.append(seen.found(0))
            difference = abs(artifact - source)
            self.boxes.add(difference[:4])
            self.scores.add(difference[4:])

    def differences(self) -> Iterator[Measure]:
        """Differences of the raw outputs: all, the boxes in pixels, and the scores."""
        boxes, scores = self.boxes, self.scores
        maximum, total = max(boxes.maximum, scores.maximum), boxes.total + scores.total
        both = Differences(maximum, total, boxes.count + scores.count)
        for differences, group in zip((both, boxes, scores), ("", *_OUTPUTS), strict=True):
            yield from differences.measures(group)


def map50_95(model: Predictor, view: Dataset, imgsz: ImageShape) -> float:
    """The mAP50-95 of an opened artifact on labelled images; NaN without labels."""
    tally = Tally()
    for seen in evaluate(view, imgsz, model):
        tally.add(seen)
    return average_precision(tally.truths, tally.artifact, len(view.names)).map50_95


def accuracy(tally: Tally, names: tuple[str, ...], *, labelled: bool) -> tuple[Measure, ...]:
    """Everything that a report says about accuracy."""
    unlabelled = (Measure(key, None, None, reason=_UNLABELLED) for key in (Key.MAP50_95, Key.MAP50))
    against_labels = _against_labels(tally, names) if labelled else unlabelled
    return (*against_labels, fidelity(tally, len(names)), *tally.differences())


def scores(tally: Tally, names: tuple[str, ...], *, labelled: bool) -> tuple[Measure, Measure]:
    """The mAP50-95 and fidelity of the artifact alone."""
    if not labelled:
        overall = Measure(Key.MAP50_95, None, None, reason=_UNLABELLED)
    else:
        value = average_precision(tally.truths, tally.artifact, len(names)).map50_95
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
    value = average_precision(truths, tally.artifact, classes).map50_95
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


def _against_labels(tally: Tally, names: tuple[str, ...]) -> Iterator[Measure]:
    source = average_precision(tally.truths, tally.source, len(names))
    artifact = average_precision(tally.truths, tally.artifact, len(names))
    low, high = drop_interval(tally.truths, tally.source, tally.artifact, len(names))
    interval = None if math.isnan(low) else (round(low, 6), round(high, 6))
    yield _measure(Key.MAP50_95, source.map50_95, artifact.map50_95, "an object", interval=interval)
    yield _measure(Key.MAP50, source.map50, artifact.map50, "an object")
    for name, before, after in zip(_SIZES, source.by_size, artifact.by_size, strict=True):
        yield _measure(Key.SIZE_AP, before, after, f"a {name} object", group=name)
    counts = Counter(box.cls for truth in tally.truths for box in truth.boxes)
    pairs = zip(names, source.per_class, artifact.per_class, strict=True)
    for cls, (name, before, after) in enumerate(pairs):
        yield _measure(Key.CLASS_AP, before, after, "this class", group=name, count=counts[cls])


def _measure(
    key: Key,
    source: float | None,
    artifact: float,
    object_: str,
    *,
    interval: tuple[float, float] | None = None,
    group: str = "",
    count: int | None = None,
) -> Measure:
    if math.isnan(artifact):
        reason = f"no evaluation image shows {object_}"
        return Measure(key, None, None, group=group, count=count, reason=reason)
    return Measure(key, source, artifact, interval=interval, group=group, count=count)
