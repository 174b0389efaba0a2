"""Output as rows: the best pairs of an anchor and a class, as an end-to-end detector gives them.

A row is left, top, right and bottom in pixels of the input, score, and class index. An artifact may end in rows while
the source model gives anchors. So that the two can be compared, the anchors become rows by the same selection, and rows
that are the same detection are paired: the order of two nearly equal scores is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import ROWS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_NEAR = 0.25  # of the longer side of a box: how far the corners of the same detection may be apart
_LEAST = 1.0  # px, where that is less


def best_rows(raw: Floats, count: int = ROWS, extras: int = 0) -> Floats:
    """The best pairs of an anchor and a class `[k, 6 + extras]` of a raw output `[4 + classes + extras, anchors]`, best first.

    Of the k = min(count, anchors) anchors with the best scores, the k best pairs: the selection of YOLOv10
    (https://arxiv.org/abs/2405.14458, its post-processing). Of equal scores, the first anchor and class go first.
    """
    scores = raw[4 : len(raw) - extras]
    anchors = np.argsort(-scores.max(0), kind="stable")[:count]
    pairs = scores[:, anchors].T.reshape(-1)
    best = np.argsort(-pairs, kind="stable")[: len(anchors)]
    chosen, classes = anchors[best // len(scores)], best % len(scores)
    x, y, width, height = raw[:4, chosen]
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    numbers = (*corners, pairs[best], classes.astype(np.float32), *raw[4 + len(scores) :, chosen])
    return np.stack(numbers, axis=1)


def rows_fault(rows: Floats, classes: int) -> str | None:
    """What is wrong with rows whose numbers are finite, as the rest of a sentence; None if nothing is."""
    numbers = rows[:, 5]
    if ((numbers < 0) | (numbers >= classes) | (numbers != numbers.round())).any():
        return f"names a class that is none of 0 to {classes - 1}"
    if (np.diff(rows[:, 4]) > 0).any():
        return "is not sorted by score"
    return None


@dataclass(frozen=True)
class Paired:
    """Rows of two outputs that are the same detection, and what the others are short of.

    `first` and `second` [pairs] are their places in either. `lost` [rows of the first] and `added` [rows of the
    second] are by how much the score of a row without a pair lies above the lowest of the other output, 0
    for rows that have a pair: whatever the other output has instead is not better than its last row, so its score of
    this detection differs by at least that.
    """

    first: Ints
    second: Ints
    lost: Floats
    added: Floats


def pair_rows(one: Floats, two: Floats) -> Paired:
    """Pair the rows `[n, 6 + extras]` of two outputs of the same image, the nearest first.

    The same detection has the same class, and no corner further away than a quarter of the longer side of the
    first's box, or one pixel. Of several the nearest counts, by the distance as part of that plus the difference of scores.
    """
    sides = (one[:, 2:4] - one[:, :2]).max(1, initial=0)
    reach = np.maximum(_NEAR * sides, _LEAST)[:, None]
    distance = abs(one[:, None, :4] - two[None, :, :4]).max(2)
    cost = distance / reach + abs(one[:, None, 4] - two[None, :, 4])
    cost[(one[:, None, 5] != two[None, :, 5]) | (distance > reach)] = np.inf
    first, second = _mutually_nearest(cost)
    lost = np.maximum(one[:, 4] - two[:, 4].min(initial=1), 0)
    added = np.maximum(two[:, 4] - one[:, 4].min(initial=1), 0)
    lost[first] = added[second] = 0
    return Paired(first, second, lost, added)


def _mutually_nearest(cost: Floats) -> tuple[Ints, Ints]:
    """Take the pairs that are nearest to each other, then those of what is left, until none is left."""
    taken: list[tuple[Ints, Ints]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    while cost.size:
        rows, near = np.arange(len(cost)), cost.argmin(1)
        both = (cost.argmin(0)[near] == rows) & np.isfinite(cost[rows, near])
        if not both.any():
            break
        first, second = rows[both], near[both]
        taken.append((first, second))
        cost[first, :] = np.inf
        cost[:, second] = np.inf
    ones, twos = zip(*taken, strict=True)
    return np.concatenate(ones), np.concatenate(twos)


def row_differences(one: Floats, two: Floats) -> tuple[Floats, Floats]:
    """Absolute differences between the rows of two outputs: of the corners of pairs, in pixels, and of all scores."""
    boxes, scores, _ = all_row_differences(one, two)
    return boxes, scores


def all_row_differences(one: Floats, two: Floats) -> tuple[Floats, Floats, Floats]:
    """As `row_differences`, then those of the extra numbers of pairs `[pairs, extras]`."""
    paired = pair_rows(one, two)
    first, second = one[paired.first], two[paired.second]
    scores = abs(first[:, 4] - second[:, 4])
    lone = (paired.lost[paired.lost > 0], paired.added[paired.added > 0])
    differences = abs(first - second)
    return differences[:, :4], np.concatenate([scores, *lone]), differences[:, 6:]
