"""What matched findings say beyond one figure: AP of each image alone, and how precision and recall depend on each other.

A curve is the mean over the classes that have labels, at the least similarity of `THRESHOLDS`. A finding is right or wrong
whatever lies below it, so a curve by confidence counts those at or above each confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.average_precision import POINTS
from yolodeploy.tasks.matching import Flags, Floats64, Ints, Matches, Outcomes
from yolodeploy.tasks.measures import Curve

STEPS = 100  # of recall and of confidence: 101 points from 0 to 1
_DIGITS = 4
GRID: Floats64 = np.arange(STEPS + 1) / STEPS


@dataclass(frozen=True)
class _Groups:
    """The findings that decide, group by group and best first in each: those of one class, or of one class in one image.

    `starts` [k] are the places where the group of each begins, `which` [k] its number, `hits` [k, thresholds] where it is
    right, and `found` how many findings that count it has down to this one. `objects` [groups] are the labels of each.
    """

    starts: Ints
    which: Ints
    hits: Flags
    found: Ints
    objects: Ints

    def right(self) -> Ints:
        """How many are right down to each finding of its group `[k, thresholds]`."""
        return _since(np.cumsum(self.hits, axis=0), self.hits, self.starts)

    def best(self) -> Floats64:
        """The best precision that is reached at each finding of its group or below `[k, thresholds]`."""
        right = self.right()
        shares = np.divide(right, self.found, out=np.zeros(right.shape), where=self.found > 0)
        lift = 2.0 * (self.which.max(initial=0) - self.which)[:, None]  # no group reaches the next
        best: Floats64 = np.maximum.accumulate((shares + lift)[::-1])[::-1] - lift
        return best


def image_precision(matches: Matches) -> Floats64:
    """AP50-95 of each image alone `[images]`, over the classes that it shows; NaN where it shows none."""
    outcomes = matches.outcomes()
    wide = 1 + max(outcomes.classes.max(initial=0), outcomes.label_classes.max(initial=0))
    keys = outcomes.images.astype(np.int64) * wide + outcomes.classes
    labels = outcomes.label_images.astype(np.int64) * wide + outcomes.label_classes
    shown, groups = _grouped(outcomes, keys, labels)
    right = groups.right()
    steps = np.floor(right * (POINTS / groups.objects[groups.which])[:, None] + (0.5 + 1e-9))
    gained = _gained(steps, groups.starts) * groups.best()
    average = np.zeros((len(shown), gained.shape[1]))
    np.add.at(average, groups.which, gained / POINTS)
    images = shown // wide
    total = np.bincount(images, average.mean(axis=1), minlength=matches.images)
    count = np.bincount(images, minlength=matches.images)
    unknown = np.full(matches.images, math.nan)
    result: Floats64 = np.divide(total, count, out=unknown, where=count > 0)
    return result


def curves_of(matches: Matches) -> dict[str, Curve] | None:
    """Precision by recall, and precision, recall and F1 by confidence; None without labels."""
    outcomes = matches.outcomes()
    if not len(outcomes.label_classes):
        return None
    return {"precision_recall": _by_recall(outcomes), "confidence": _by_confidence(outcomes)}


def _by_recall(outcomes: Outcomes) -> Curve:
    """The best precision at each recall or beyond, as AP has it; 0 where a class never gets so far."""
    order = np.lexsort((outcomes.images, -outcomes.scores))
    _, groups = _grouped(outcomes, outcomes.classes, outcomes.label_classes, order)
    right, best = groups.right()[:, 0], groups.best()[:, 0]
    total = np.zeros(STEPS + 1)
    ends = np.searchsorted(groups.which, np.arange(len(groups.objects) + 1))
    for group, count in enumerate(groups.objects.tolist()):
        here = slice(ends[group], ends[group + 1])
        needed = np.ceil(GRID * count - 1e-9).clip(1)
        places = np.searchsorted(right[here], needed)
        total += np.append(best[here], 0.0)[places]
    return {"recall": plain(GRID), "precision": plain(total / len(groups.objects))}


def _by_confidence(outcomes: Outcomes) -> Curve:
    """Means over the classes; a class of which nothing is found has the precision 1 there, as nothing is wrong."""
    classes, objects = np.unique(outcomes.label_classes, return_counts=True)
    hits, ignored = np.zeros((2, len(outcomes.scores)), np.bool_)
    hits[outcomes.rows], ignored[outcomes.rows] = outcomes.hits[:, 0], outcomes.ignored[:, 0]
    place = np.searchsorted(classes, outcomes.classes).clip(0, len(classes) - 1)
    counted = (classes[place] == outcomes.classes) & ~ignored
    bins = np.floor(outcomes.scores.astype(np.float64) * STEPS + 1e-5).clip(0, STEPS)
    cells = place * (STEPS + 1) + bins.astype(np.int64)
    right, found = (_above(cells[flags], len(classes)) for flags in (hits & counted, counted))
    precision = np.divide(right, found, out=np.ones(right.shape), where=found > 0)
    recall = right / objects[:, None]
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(both.shape), where=both > 0)
    columns = {"precision": precision, "recall": recall, "f1": f1}
    means = {name: plain(column.mean(axis=0)) for name, column in columns.items()}
    return {"confidence": plain(GRID), **means}


def _above(cells: Ints, classes: int) -> Ints:
    """How many lie at or above each confidence `[classes, 101]`, by the cells of such a table."""
    table = np.bincount(cells, minlength=classes * (STEPS + 1)).reshape(classes, STEPS + 1)
    return np.asarray(table[:, ::-1].cumsum(axis=1)[:, ::-1], np.int64)


def _grouped(
    outcomes: Outcomes,
    keys: NDArray[np.integer],
    labels: NDArray[np.integer],
    order: Ints | None = None,
) -> tuple[Ints, _Groups]:
    """Findings grouped by `keys` [n], in their order or in another; also the keys of the groups, those of `labels`."""
    shown, objects = np.unique(labels, return_counts=True)
    order = np.arange(len(keys)) if order is None else order
    order = order[np.argsort(keys[order], kind="stable")]
    ordered = keys[order]
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    theirs = keys[outcomes.rows]
    which = np.searchsorted(shown, theirs).clip(0, max(len(shown) - 1, 0))
    known = shown[which] == theirs if len(shown) else np.zeros(len(theirs), np.bool_)
    by_group = np.flatnonzero(known)
    by_group = by_group[np.lexsort((rank[outcomes.rows[by_group]], which[by_group]))]
    which, ranks = which[by_group], rank[outcomes.rows[by_group]]
    hits, ignored = outcomes.hits[by_group], outcomes.ignored[by_group]
    starts = np.searchsorted(which, which)
    found = ranks[:, None] + 1 - _since(np.cumsum(ignored, axis=0), ignored, starts)
    return shown, _Groups(starts, which, hits, found, objects)


def _since(total: Ints, flags: Flags, starts: Ints) -> Ints:
    """Running totals of flags less what they were before each group began."""
    result: Ints = total - (total - flags)[starts]
    return result


def _gained(steps: Floats64, starts: Ints) -> Floats64:
    """What each row adds to the row before it in its group."""
    before = np.concatenate([np.zeros((1, steps.shape[1])), steps[:-1]])
    first = np.arange(len(steps)) == starts
    before[: len(steps)][first] = 0
    result: Floats64 = steps - before[: len(steps)]
    return result


def plain(values: Floats64) -> list[float]:
    """Numbers as reports have them, to four digits."""
    return [round(value, _DIGITS) + 0.0 for value in values.tolist()]
