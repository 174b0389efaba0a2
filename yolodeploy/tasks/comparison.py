"""What every task that finds objects says of source and artifact on labels: average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.average_precision import Interval, drop_intervals, precision
from yolodeploy.tasks.curves import image_precision
from yolodeploy.tasks.matching import Matches
from yolodeploy.tasks.measures import USUAL, Key, Measure

Truth = TypeVar("Truth")
Found = TypeVar("Found")
_SIZES = ("small", "medium", "large")


def against_labels(
    source: Matches,
    artifact: Matches,
    names: tuple[str, ...],
    confidence: float = USUAL,
    *,
    overall: Key = Key.MAP50_95,
    at50: Key = Key.MAP50,
) -> Iterator[Measure]:
    """The AP of both models on the same labels by the measure that decides, and drops with intervals.

    First over all classes, from 0.50 to 0.95 as the measure `overall` and at 0.50 as `at50`, then by size of the
    objects and by class, each class with the number of its labels.
    """
    before, after = precision(source), precision(artifact)
    drops = drop_intervals(source, artifact, confidence)
    first = known_or_reason(overall, before.map50_95, after.map50_95, "an object")
    yield _between(first, drops.overall, confidence)
    yield known_or_reason(at50, before.map50, after.map50, "an object")
    for name, theirs, ours in zip(_SIZES, before.by_size, after.by_size, strict=True):
        yield known_or_reason(Key.SIZE_AP, theirs, ours, f"a {name} object", group=name)
    counts = artifact.counts.tolist()
    rows = zip(names, before.per_class, after.per_class, drops.per_class, counts, strict=True)
    for name, theirs, ours, interval, count in rows:
        row = known_or_reason(Key.CLASS_AP, theirs, ours, "this class", group=name)
        yield replace(_between(row, interval, confidence), count=count)


def of_boxes(source: Matches, artifact: Matches) -> Iterator[Measure]:
    """The AP of the boxes of both models, where another measure decides."""
    before, after = precision(source), precision(artifact)
    yield known_or_reason(Key.MAP50_95, before.map50_95, after.map50_95, "an object")
    yield known_or_reason(Key.MAP50, before.map50, after.map50, "an object")


def known_or_reason(
    key: Key, source: float | None, artifact: float, object_: str, *, group: str = ""
) -> Measure:
    """A measure of both models; if the artifact's is NaN, one that says that no image shows `object_`."""
    if math.isnan(artifact):
        reason = f"no evaluation image shows {object_}"
        return Measure(key, None, None, group=group, reason=reason)
    return Measure(key, source, artifact, group=group)


def _between(measure: Measure, interval: Interval | None, confidence: float) -> Measure:
    """A measure with the interval of its loss, if it has a loss and an interval."""
    if interval is None or measure.loss is None:
        return measure
    low, high = interval
    return replace(measure, interval=(round(low, 6), round(high, 6)), confidence=confidence)


def image_fidelity(
    match: Callable[[Sequence[Truth], Sequence[Found]], Matches],
    as_truth: Callable[[Found, Truth], Truth],
    truths: Sequence[Truth],
    source: Sequence[Found],
    artifact: Sequence[Found],
) -> list[float | None]:
    """How well two models agree in each image alone: the AP50-95 of either against what the other finds with confidence.

    The artifact is matched with what the source found, which shows what was lost, and the source with what the artifact found, which
    shows what was made up. The lower one counts; None where neither finds anything with confidence.
    """

    def precision_in(labelling: Sequence[Found], judged: Sequence[Found]) -> NDArray[np.float64]:
        labels = [as_truth(*pair) for pair in zip(labelling, truths, strict=True)]
        return image_precision(match(labels, judged))

    lower = np.fmin(precision_in(source, artifact), precision_in(artifact, source))
    return [None if math.isnan(value) else round(value, 6) for value in lower.tolist()]
