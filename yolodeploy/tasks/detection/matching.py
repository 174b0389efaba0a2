"""Which detections are right: detections matched with labels, image by image, as COCO does.

Detections take their turn by score. At each IoU threshold a detection takes the free label of its class that it
overlaps most, and is right if there is one (Lin et al., "Microsoft COCO", 2014, and the evaluation code published
with it). No detection depends on another image, so this is done once, however often images are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Box

if TYPE_CHECKING:
    from yolodeploy.tasks.detection.postprocess import Detections

IOUS = np.linspace(0.5, 0.95, 10)
SMALL, LARGE = 32**2, 96**2  # areas in square pixels that bound COCO's medium objects
# All objects, then small, medium and large ones; both ends belong to a range.
AREAS = ((0.0, 1e10), (0.0, SMALL), (SMALL, LARGE), (LARGE, 1e10))

Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """The labelled objects of one image, and the size of the image in pixels."""

    boxes: tuple[Box, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Ranked:
    """The detections of one class in one range of areas, best first.

    `images` [n] are the numbers of their images. Most detections are wrong at every threshold. `special` [k] are
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
class _Rows:
    """Boxes of all images, one row each. `boxes` [n, 4] are left, top, width and height in pixels."""

    images: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    areas: Floats64


@dataclass(frozen=True)
class _Pairs:
    """Detections and labels of one class in one image that overlap enough, by their row numbers."""

    detections: Ints
    labels: Ints
    ious: Floats64


class Matches:
    """The detections of a model, matched with the labels of the same images."""

    def __init__(self, truths: Sequence[Truth], found: Sequence[Detections], classes: int) -> None:
        self.images, self._classes = len(truths), classes
        self._labels, self._found, self._pairs = _overlaps(truths, found)

    def ranked(self, area: int = 0) -> Iterator[Ranked]:
        """Every class in order, in one of the ranges of `AREAS`."""
        low, high = AREAS[area]
        labels, found, pairs = self._labels, self._found, self._pairs
        outside = (labels.areas < low) | (labels.areas > high)
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


def _overlaps(truths: Sequence[Truth], found: Sequence[Detections]) -> tuple[_Rows, _Rows, _Pairs]:
    """Labels and detections of all images as rows, and the pairs that overlap."""
    labels, rows, pairs = [], [], []
    label_count = found_count = 0
    for truth, detections in zip(truths, found, strict=True):
        theirs, classes = _boxes(truth)
        order = np.argsort(-detections.scores, kind="stable")
        corners = detections.boxes[order].astype(np.float64)
        ours = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        found_classes = detections.classes[order]
        iou = _iou(ours, theirs) * (found_classes[:, None] == classes)
        which, label = np.nonzero(iou >= IOUS[0])
        pairs.append((which + found_count, label + label_count, iou[which, label]))
        labels.append((classes, np.zeros(len(classes)), theirs[:, 2] * theirs[:, 3]))
        rows.append((found_classes, detections.scores[order], ours[:, 2] * ours[:, 3]))
        label_count, found_count = label_count + len(classes), found_count + len(order)
    columns = [np.concatenate(column) for column in zip(*pairs, strict=True)]
    return _rows(labels), _rows(rows), _Pairs(*columns)


def _rows(images: Sequence[tuple[NDArray[np.generic], ...]]) -> _Rows:
    numbers = np.repeat(np.arange(len(images), dtype=np.int32), [len(one[0]) for one in images])
    classes, scores, areas = (np.concatenate(column) for column in zip(*images, strict=True))
    return _Rows(
        numbers, classes.astype(np.int32), scores.astype(np.float32), areas.astype(np.float64)
    )


def _boxes(truth: Truth) -> tuple[Floats64, Ints]:
    """Left, top, width and height of the labels `[n, 4]` in pixels, and their classes."""
    table = np.array([(b.x, b.y, b.width, b.height) for b in truth.boxes], np.float64).reshape(
        -1, 4
    )
    table *= (truth.width, truth.height) * 2
    table[:, :2] -= table[:, 2:] / 2
    return table, np.array([box.cls for box in truth.boxes], np.int64)


def _iou(one: Floats64, two: Floats64) -> Floats64:
    """IoU `[n, m]` of boxes given as left, top, width and height."""
    ends = np.minimum(one[:, None, :2] + one[:, None, 2:], two[:, :2] + two[:, 2:])
    sides = (ends - np.maximum(one[:, None, :2], two[:, :2])).clip(0)
    both = sides[..., 0] * sides[..., 1]
    union = (one[:, 2] * one[:, 3])[:, None] + two[:, 2] * two[:, 3] - both
    result: Floats64 = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return result


def _take_turns(pairs: _Pairs, outside: Flags, found: _Rows, labels: int) -> Flags:
    """Where a pair's detection takes its label `[pairs, thresholds]`.

    A label of the range goes before one outside it, the larger overlap before the smaller, and of equals the
    last. The first detections of all images and classes take their turn at once, then the second ones.
    """
    turn = _turns(pairs.detections, found)
    order = np.lexsort((-pairs.labels, -pairs.ious, outside, pairs.detections, turn))
    detection, label = pairs.detections[order], pairs.labels[order]
    enough = pairs.ious[order, None] >= np.minimum(IOUS, 1 - 1e-10)
    free = np.ones((labels, len(IOUS)), np.bool_)
    taken = np.zeros(enough.shape, np.bool_)
    ends = np.searchsorted(turn[order], np.arange(1 + turn.max(initial=-1) + 1))
    for start, end in pairwise(ends.tolist()):
        here, theirs = detection[start:end], label[start:end]
        can = enough[start:end] & free[theirs]
        count = np.cumsum(can, axis=0, dtype=np.int32)
        opening = np.searchsorted(here, here)  # sorted within a turn
        first = can & (count - count[opening] + can[opening] == 1)
        free[theirs] &= ~first
        taken[start:end] = first
    result = np.empty_like(taken)
    result[order] = taken
    return result


def _turns(detections: Ints, found: _Rows) -> Ints:
    """The turn of each pair: how many better detections of its class and image overlap a label too."""
    rows, back = np.unique(detections, return_inverse=True)
    group = found.images[rows].astype(np.int64) * (found.classes.max(initial=0) + 1)
    group += found.classes[rows]
    order = np.argsort(group, kind="stable")  # rows of an image are sorted by score
    ordered = group[order]
    turn = np.empty_like(group)
    turn[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    result: Ints = turn[back]
    return result


def _outcomes(first: Flags, pairs: _Pairs, outside: Flags) -> tuple[Ints, Flags, Flags]:
    """The rows of the detections that overlap a label, and at which thresholds they are right or ignored."""
    rows, back = np.unique(pairs.detections, return_inverse=True)
    hits = np.zeros((len(rows), len(IOUS)), np.bool_)
    ignored = np.zeros_like(hits)
    for table, wanted in ((hits, ~outside), (ignored, outside)):
        which, threshold = np.nonzero(first & wanted[pairs.labels, None])
        table[back[which], threshold] = True
    return rows, hits, ignored
