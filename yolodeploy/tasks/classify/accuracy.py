"""How often the right class comes first, and what compression costs of that, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.average_precision import LEAST_IMAGES, draws
from yolodeploy.tasks.classify.probabilities import Floats, best_classes
from yolodeploy.tasks.curves import GRID, plain
from yolodeploy.tasks.measures import Curve, Key, Measure

FEW = 5  # classes, among which the right one is always one of the five best
_ALWAYS = "of 5 classes or fewer, the right one is always among the five best"
NO_IMAGES = "there is no evaluation image"
_NO_IMAGE = "no evaluation image is of this class"

Flags = NDArray[np.bool_]
Interval = tuple[float, float]


def right(truths: Sequence[int], found: Sequence[Floats], best: int = 1) -> Flags:
    """Whether the class of each image is among so many best ones `[images]`."""
    if not len(truths):
        return np.zeros(0, np.bool_)
    hits: Flags = (best_classes(np.stack(found), best) == np.asarray(truths)[:, None]).any(axis=1)
    return hits


def share(hits: Flags) -> float:
    """The share of images that are right; NaN without images."""
    return float(hits.mean()) if len(hits) else math.nan


def accuracy_curve(hits: Flags, found: Sequence[Floats]) -> dict[str, Curve]:
    """Accuracy of, and share of, the images whose best class has a probability of at least 0, 0.01, ... as far as there are some."""
    confidence = np.array([each.max() for each in found], np.float64)
    flags = confidence[:, None] + 1e-6 >= GRID
    counts = flags.sum(axis=0)
    some = counts > 0
    accurate = (flags & hits[:, None]).sum(axis=0)[some] / counts[some]
    columns = {"confidence": GRID[some], "accuracy": accurate, "share": counts[some] / len(hits)}
    return {"confidence": {name: plain(column) for name, column in columns.items()}}


def against_labels(
    names: tuple[str, ...],
    truths: Sequence[int],
    source: Sequence[Floats],
    artifact: Sequence[Floats],
    confidence: float,
) -> Iterator[Measure]:
    """Top-1 and top-5 accuracy, and the top-1 accuracy of each class; drops of top-1 with intervals."""
    before, after = right(truths, source), right(truths, artifact)
    if not len(before):
        for key in (Key.TOP1, Key.TOP5):
            yield Measure(key, None, None, reason=NO_IMAGES)
        return
    labels, weights = np.asarray(truths), _drawn_images(len(truths), confidence)
    every = np.ones(len(labels), np.bool_)
    yield _accuracy(Key.TOP1, "", (before, after), every, weights, confidence)
    if len(names) <= FEW:
        yield Measure(Key.TOP5, None, None, reason=_ALWAYS)
    else:
        ours, theirs = (share(right(truths, found, FEW)) for found in (source, artifact))
        yield Measure(Key.TOP5, ours, theirs, count=len(labels))
    for cls, name in enumerate(names):
        yield _accuracy(Key.CLASS_AP, name, (before, after), labels == cls, weights, confidence)


def _accuracy(
    key: Key,
    group: str,
    hits: tuple[Flags, Flags],
    members: Flags,
    weights: NDArray[np.int32],
    confidence: float,
) -> Measure:
    """Accuracy of both models on some images, and the interval of the drop if there are enough."""
    before, after = hits[0][members], hits[1][members]
    if not len(before):
        return Measure(key, None, None, group=group, count=0, reason=_NO_IMAGE)
    drop = before.astype(np.int32) - after
    interval = _interval(drop, weights[:, members], confidence)
    if group and len(before) < LEAST_IMAGES:
        interval = None
    return Measure(key, share(before), share(after), True, interval, confidence, group, len(before))


def _interval(
    drop: NDArray[np.int32], weights: NDArray[np.int32], confidence: float
) -> Interval | None:
    """Percentiles of the mean drop over the draws; None if no draw has an image.

    Where both models agree on every image, no draw shows a change. Then the interval is what may change in the share of
    images that would, with this probability, not have shown in so many: Clopper and Pearson, Biometrika 26 (1934), for none.
    """
    if not drop.any():
        unseen = round(1 - ((1 - confidence) / 2) ** (1 / len(drop)), 6)
        return -unseen, unseen
    counts = weights.sum(axis=1)
    known = counts > 0
    if not known.any():
        return None
    drawn = (weights[known] @ drop) / counts[known]
    low, high = np.quantile(drawn, ((1 - confidence) / 2, (1 + confidence) / 2))
    return round(float(low), 6), round(float(high), 6)


def _drawn_images(count: int, confidence: float, seed: int = 0) -> NDArray[np.int32]:
    """How often each image is drawn `[draws, images]`: both models on the same images, with replacement."""
    random = np.random.default_rng(seed)
    rows = (
        np.bincount(random.integers(0, count, count), minlength=count)
        for _ in range(draws(count, confidence))
    )
    return np.stack([row.astype(np.int32) for row in rows])
