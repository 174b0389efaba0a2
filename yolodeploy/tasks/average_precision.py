"""Average precision as COCO defines it, of all images and of images drawn with replacement.

Precision is sampled at the midpoints of 100 recall bins, not at COCO's 101 points, which count
recall 0 as a point of its own and so add up to 0.005 where a class has few objects. See
docs/decisions/003-map.md for the comparison with Ultralytics' `val`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.matching import AREAS, Floats64, Matches, Ranked
from yolodeploy.tasks.measures import USUAL

POINTS = 100  # recalls at which precision is sampled: (i + 0.5) / POINTS
MAX_DRAWS, MIN_DRAWS = 400, 100
LEAST_IMAGES = 10  # that show a class: an interval of fewer is far from its probability
_CHUNK = 1 << 17  # numbers in memory at once: what fits the processor's cache

Weights = NDArray[np.int32]  # [draws, images]: how often each image counts
Interval = tuple[float, float]


@dataclass(frozen=True)
class Precision:
    """Average precision in 0..1: over all classes that have labels, per class, and by object size.

    `by_size` is AP50-95 of small, medium and large objects: up to 32 x 32 pixels of the original image, up to
    96 x 96, and above, as COCO divides them, by the area that the task names. NaN without labels.
    """

    map50_95: float
    map50: float
    per_class: tuple[float, ...]
    by_size: tuple[float, float, float]


@dataclass(frozen=True)
class Intervals:
    """Intervals of a drop of AP50-95: over all classes, and per class; None where there is none."""

    overall: Interval | None
    per_class: tuple[Interval | None, ...]


def precision(matches: Matches) -> Precision:
    """AP of matched findings."""
    every, *sizes = (_table(matches, area) for area in range(len(AREAS)))
    small, medium, large = map(_mean, sizes)
    per_class = tuple(every.mean(axis=1).tolist())
    return Precision(_mean(every), _mean(every[:, 0]), per_class, (small, medium, large))


def mean_precision(matches: Matches) -> float:
    """The mAP50-95 alone."""
    return _mean(_table(matches, 0))


def drop_intervals(
    source: Matches, artifact: Matches, confidence: float = USUAL, seed: int = 0
) -> Intervals:
    """The intervals that contain the drop of AP50-95 with a probability, by a paired bootstrap over the images.

    Both models are scored on the same images, drawn with replacement (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13: percentile intervals). If the interval contains 0, the
    loss may be chance. Draws without a label do not count. A class that fewer than `LEAST_IMAGES` show has
    no interval.
    """
    random, count = np.random.default_rng(seed), source.images
    weights = np.stack(
        [
            np.bincount(random.integers(0, count, count), minlength=count)
            for _ in range(draws(count, confidence))
        ]
    ).astype(np.int32)
    pairs = zip(source.ranked(), artifact.ranked(), strict=True)
    drops, total, known = [], np.zeros(len(weights)), np.zeros(len(weights))
    for before, after in pairs:
        drop = _drawn(before, weights) - _drawn(after, weights)  # NaN without labels
        total += np.nan_to_num(drop)
        known += ~np.isnan(drop)
        drops.append(
            _interval(drop, confidence) if len(np.unique(before.labels)) >= LEAST_IMAGES else None
        )
    drawn = np.divide(total, known, out=np.full_like(total, math.nan), where=known > 0)
    return Intervals(_interval(drawn, confidence), tuple(drops))


def draws(images: int, confidence: float = USUAL) -> int:
    """The number of draws: fewer for many images, whose interval is narrow and whose draws are slow.

    Where a recipe asks for a confidence, at least 20 lie beyond each end of the interval.
    """
    usual = min(MAX_DRAWS, max(MIN_DRAWS, 100_000 // images))
    return usual if confidence == USUAL else max(usual, round(40 / (1 - confidence)))


def _interval(drops: Floats64, confidence: float) -> Interval | None:
    known = drops[~np.isnan(drops)]
    if not len(known):
        return None
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def _table(matches: Matches, area: int) -> Floats64:
    """AP `[classes, thresholds]` of all images; NaN without labels."""
    once = np.ones((1, matches.images), np.int32)
    return np.concatenate([_average(ranked, once) for ranked in matches.ranked(area)])


def _drawn(ranked: Ranked, weights: Weights) -> Floats64:
    """AP50-95 `[draws]` of one class, a few draws at a time."""
    size = max(1, _CHUNK // max(1, len(ranked.images), ranked.hits.size))
    chunks = (weights[start : start + size] for start in range(0, len(weights), size))
    return np.concatenate([_average(ranked, chunk).mean(axis=1) for chunk in chunks])


def _average(ranked: Ranked, weights: Weights) -> Floats64:
    """AP `[draws, thresholds]` of one class; NaN where the drawn images have no label of it.

    A finding counts as often as its image. Precision is monotone after COCO's correction: at each recall the best
    that is reached there or later. So each right detection stands for the recall points that it adds.
    """
    objects = weights[:, ranked.labels].sum(axis=1)
    counts = weights[:, ranked.images]
    special = counts[:, None, ranked.special]
    hits = np.cumsum(special * ranked.hits.T, axis=2, dtype=np.int32)
    found = _counted(ranked, counts, special)
    shares = np.divide(hits, found, out=np.zeros(hits.shape), where=found > 0)
    best = np.maximum.accumulate(shares[..., ::-1], axis=2)[..., ::-1]
    # Recalls are ratios of small whole numbers: adding a tiny number mends the rounding of exact halves.
    scale = POINTS / np.maximum(objects, 1)
    reached = np.floor(hits * scale[:, None, None] + (0.5 + 1e-9))
    average = (best * np.diff(reached, axis=2, prepend=0)).sum(axis=2) / POINTS
    average[objects == 0] = math.nan
    return np.asarray(average, np.float64)


def _counted(ranked: Ranked, counts: Weights, special: Weights) -> Weights:
    """How many findings are right or wrong down to each special one `[draws, 1 or thresholds, special]`."""
    if ranked.counted.all():
        return np.cumsum(counts, axis=1, dtype=np.int32)[:, None, ranked.special]
    plain = counts.copy()
    plain[:, ranked.special] = 0
    before = np.cumsum(plain, axis=1, dtype=np.int32)[:, None, ranked.special]
    total: Weights = before + np.cumsum(special * ranked.counted.T, axis=2, dtype=np.int32)
    return total


def _mean(values: Floats64) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
