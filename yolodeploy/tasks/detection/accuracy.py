"""Average precision of source and artifact on labels: overall with the interval of the drop, by object size and by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from yolodeploy.data import Box
from yolodeploy.tasks.detection.average_precision import drop_intervals, precision
from yolodeploy.tasks.detection.matching import Matches, Truth
from yolodeploy.tasks.detection.postprocess import Detections
from yolodeploy.tasks.measures import Key, Measure
from yolodeploy.tasks.tally import measured
from yolodeploy.tasks.thresholds import APP

_SIZES = ("small", "medium", "large")


def as_truth(found: Detections, image: Truth) -> Truth:
    """Confident detections as labels."""
    confident = found.scores > APP.confidence
    size = np.array([image.width, image.height])
    corners = found.boxes[confident].astype(np.float64)
    centres, sides = (corners[:, 2:] + corners[:, :2]) / 2 / size, corners[:, 2:] - corners[:, :2]
    rows = zip(
        found.classes[confident].tolist(), centres.tolist(), (sides / size).tolist(), strict=True
    )
    boxes = tuple(Box(cls, *centre, *side) for cls, centre, side in rows)
    return Truth(boxes, image.width, image.height)


def against_labels(
    truths: Sequence[Truth],
    theirs: Sequence[Detections],
    ours: Sequence[Detections],
    names: tuple[str, ...],
    confidence: float,
) -> Iterator[Measure]:
    """What source (`theirs`) and artifact (`ours`) score; drops have intervals of this confidence."""
    pair = [Matches(truths, found, len(names)) for found in (theirs, ours)]
    source, artifact = map(precision, pair)
    drops = drop_intervals(pair[0], pair[1], confidence)
    overall = measured(Key.MAP50_95, source.map50_95, artifact.map50_95, "an object")
    yield _between(overall, drops.overall, confidence)
    yield measured(Key.MAP50, source.map50, artifact.map50, "an object")
    for name, before, after in zip(_SIZES, source.by_size, artifact.by_size, strict=True):
        yield measured(Key.SIZE_AP, before, after, f"a {name} object", group=name)
    counts = Counter(box.cls for truth in truths for box in truth.boxes)
    pairs = zip(names, source.per_class, artifact.per_class, drops.per_class, strict=True)
    for cls, (name, before, after, interval) in enumerate(pairs):
        row = measured(Key.CLASS_AP, before, after, "this class", group=name)
        yield replace(_between(row, interval, confidence), count=counts[cls])


def _between(measure: Measure, interval: tuple[float, float] | None, confidence: float) -> Measure:
    """A measure with the interval of its loss, if it has a loss and an interval."""
    if interval is None or measure.loss is None:
        return measure
    low, high = interval
    return replace(measure, interval=(round(low, 6), round(high, 6)), confidence=confidence)
