"""Which findings are right: findings matched with labels, image by image, as COCO does.

A finding is a box, a mask, a pose or a rotated box; the task says how similar it is to each label, such as by IoU or
OKS. Findings take their turn by score. At each threshold of the similarity a finding takes the free label of its class
that it is most similar to, and is right if there is one (Lin et al., "Microsoft COCO", 2014, and the evaluation code
published with it). No finding depends on another image, so this is done once, however often images are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the similarity
SMALL, LARGE = 32**2, 96**2  # areas in square pixels that bound COCO's medium objects
# All objects, then small, medium and large ones; both ends belong to a range.
AREAS = ((0.0, 1e10), (0.0, SMALL), (SMALL, LARGE), (LARGE, 1e10))

Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Fits:
    """The labels and findings of one image, and how well each finding fits each label.

    `classes` int [m] and `areas` [m] are those of the labels, areas in square pixels of the original image;
    `found_classes` int [n], `found_areas` [n] and `scores` float32 [n] those of the findings, in any order.
    `similarity` [n, m] is 1 where a finding is what is labelled; of pairs of different classes, or below the least of
    `THRESHOLDS`, it may be anything less. `ignored` [m] says of which labels nobody is asked to find them: they
    do not count, nor does a finding that takes one. None: of none.
    """

    classes: NDArray[np.integer]
    areas: Floats64
    found_classes: NDArray[np.integer]
    found_areas: Floats64
    scores: NDArray[np.float32]
    similarity: Floats64
    ignored: Flags | None = None


@dataclass(frozen=True)
class Ranked:
    """The findings of one class in one range of areas, best first.

    `images` [n] are the numbers of their images. Most findings are wrong at every threshold. `special` [k] are
    the places of the others; `hits` [k, thresholds] says where they are right, `counted` where they are right or
    wrong: one that finds an object outside the range is neither. `labels` [objects] are the numbers of the images
    that show the objects of the class.
    """

    images: NDArray[np.int32]
    special: Ints
    hits: Flags
    counted: Flags
    labels: Ints


@dataclass(frozen=True)
class Outcomes:
    """What became of all findings at all thresholds, whatever their size: by image, and best first in each.

    `images`, `classes` and `scores` [n] are those of the findings; `rows` [k] are the places of those that are similar to a
    label, and `hits` and `ignored` [k, thresholds] say where these are right, and where they do not count. All others are wrong.
    `label_images` and `label_classes` [m] are those of the labels that count.
    """

    images: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    rows: Ints
    hits: Flags
    ignored: Flags
    label_images: NDArray[np.int32]
    label_classes: NDArray[np.int32]


@dataclass(frozen=True)
class _Rows:
    """Labels or findings of all images, one row each, findings of an image by score; labels have no score."""

    images: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    areas: Floats64


@dataclass(frozen=True)
class _Pairs:
    """Findings and labels of one class in one image that are similar enough, by their row numbers."""

    findings: Ints
    labels: Ints
    similarity: Floats64


class Matches:
    """The findings of a model, matched with the labels of the same images.

    `images` is how many there are, `counts` [classes] how many labels each class has; ignored ones do not count.
    """

    def __init__(self, fits: Iterable[Fits], classes: int) -> None:
        given = list(fits)
        self.images, self._classes = len(given), classes
        self._labels, self._found, self._pairs = _rows_of(given)
        ignored = [
            np.zeros(len(each.classes), np.bool_) if each.ignored is None else each.ignored
            for each in given
        ]
        self._ignored = np.concatenate([np.zeros(0, np.bool_), *ignored])
        self.counts: Ints = np.bincount(self._labels.classes[~self._ignored], minlength=classes)[
            :classes
        ]

    def outcomes(self) -> Outcomes:
        """Every finding of every image."""
        found, labels, counts = self._found, self._labels, ~self._ignored
        first = _take_turns(self._pairs, self._ignored[self._pairs.labels], found, len(counts))
        outcomes = _outcomes(first, self._pairs, self._ignored)
        shown = labels.images[counts], labels.classes[counts]
        return Outcomes(found.images, found.classes, found.scores, *outcomes, *shown)

    def ranked(self, area: int = 0) -> Iterator[Ranked]:
        """Every class in order, in one of the ranges of `AREAS`."""
        low, high = AREAS[area]
        labels, found, pairs = self._labels, self._found, self._pairs
        outside = (labels.areas < low) | (labels.areas > high) | self._ignored
        first = _take_turns(pairs, outside[pairs.labels], found, len(outside))
        rows, hits, ignored = _outcomes(first, pairs, outside)
        inside = (found.areas >= low) & (found.areas <= high)
        counted = hits | (~ignored & inside[rows, None])
        kept = inside.copy()
        kept[rows] = counted.any(1)
        telling = hits.any(1) | (counted.any(1) & ~counted.all(1))
        place = np.full(len(kept), -1)
        place[rows[telling]] = np.flatnonzero(telling)
        order = np.lexsort((found.images, -found.scores, found.classes))
        order = order[kept[order]]
        ends = np.searchsorted(found.classes[order], np.arange(self._classes + 1))
        for cls, (start, end) in enumerate(pairwise(ends.tolist())):
            members = order[start:end]
            special = np.flatnonzero(place[members] >= 0)
            chosen = place[members[special]]
            shown = labels.images[(labels.classes == cls) & ~outside].astype(np.int64)
            last = special[-1] + 1 if len(special) else 0  # what follows changes nothing
            yield Ranked(
                found.images[members[:last]], special, hits[chosen], counted[chosen], shown
            )


def _rows_of(fits: Sequence[Fits]) -> tuple[_Rows, _Rows, _Pairs]:
    """Labels and findings of all images as rows, and the pairs that are similar."""
    labels, rows, pairs = [], [], []
    label_count = found_count = 0
    for image in fits:
        order = np.argsort(-image.scores, kind="stable")
        classes = image.found_classes[order]
        alike = image.similarity[order] * (classes[:, None] == image.classes)
        which, label = np.nonzero(alike >= THRESHOLDS[0])
        pairs.append((which + found_count, label + label_count, alike[which, label]))
        labels.append((image.classes, np.zeros(len(image.classes)), image.areas))
        rows.append((classes, image.scores[order], image.found_areas[order]))
        label_count, found_count = label_count + len(image.classes), found_count + len(order)
    nothing = np.zeros(0, np.int64)
    columns = zip((nothing, nothing, np.zeros(0)), *pairs, strict=True)
    return _rows(labels), _rows(rows), _Pairs(*map(np.concatenate, columns))


def _rows(images: Sequence[tuple[NDArray[np.generic], ...]]) -> _Rows:
    numbers = np.repeat(np.arange(len(images), dtype=np.int32), [len(one[0]) for one in images])
    nothing = (np.zeros(0),) * 3  # there may be no image
    classes, scores, areas = map(np.concatenate, zip(nothing, *images, strict=True))
    return _Rows(
        numbers, classes.astype(np.int32), scores.astype(np.float32), areas.astype(np.float64)
    )


def _take_turns(pairs: _Pairs, outside: Flags, found: _Rows, labels: int) -> Flags:
    """Where a pair's finding takes its label `[pairs, thresholds]`.

    A label of the range goes before one outside it, the more similar before the less, and of equals the
    last. The first findings of all images and classes take their turn at once, then the second ones.
    """
    turn = _turns(pairs.findings, found)
    order = np.lexsort((-pairs.labels, -pairs.similarity, outside, pairs.findings, turn))
    finding, label = pairs.findings[order], pairs.labels[order]
    enough = pairs.similarity[order, None] >= np.minimum(THRESHOLDS, 1 - 1e-10)
    free = np.ones((labels, len(THRESHOLDS)), np.bool_)
    taken = np.zeros(enough.shape, np.bool_)
    ends = np.searchsorted(turn[order], np.arange(1 + turn.max(initial=-1) + 1))
    for start, end in pairwise(ends.tolist()):
        here, theirs = finding[start:end], label[start:end]
        can = enough[start:end] & free[theirs]
        count = np.cumsum(can, axis=0, dtype=np.int32)
        opening = np.searchsorted(here, here)  # sorted within a turn
        first = can & (count - count[opening] + can[opening] == 1)
        free[theirs] &= ~first
        taken[start:end] = first
    result = np.empty_like(taken)
    result[order] = taken
    return result


def _turns(findings: Ints, found: _Rows) -> Ints:
    """The turn of each pair: how many better findings of its class and image are similar to a label too."""
    rows, back = np.unique(findings, return_inverse=True)
    group = found.images[rows].astype(np.int64) * (found.classes.max(initial=0) + 1)
    group += found.classes[rows]
    order = np.argsort(group, kind="stable")  # rows of an image are sorted by score
    ordered = group[order]
    turn = np.empty_like(group)
    turn[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    result: Ints = turn[back]
    return result


def _outcomes(first: Flags, pairs: _Pairs, outside: Flags) -> tuple[Ints, Flags, Flags]:
    """The rows of the findings that are similar to a label, and at which thresholds they are right or ignored."""
    rows, back = np.unique(pairs.findings, return_inverse=True)
    hits = np.zeros((len(rows), len(THRESHOLDS)), np.bool_)
    ignored = np.zeros_like(hits)
    for table, wanted in ((hits, ~outside), (ignored, outside)):
        which, threshold = np.nonzero(first & wanted[pairs.labels, None])
        table[back[which], threshold] = True
    return rows, hits, ignored
