"""From the output of a model to rotated boxes: one decoding and one NMS for every backend.

Which rules apply follows from the head and the layout, as in detection: candidates and suppression for a one-to-many head,
the best pairs of an anchor and a class for a one-to-one head, the rows that an artifact has selected.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import ROWS, Layout
from yolodeploy.tasks.obb.boxes import EPS, Floats, Floats64, Ints, Rotated, prob_iou, to_original
from yolodeploy.tasks.thresholds import MAX_CANDIDATES, Rules

if TYPE_CHECKING:
    from yolodeploy.data import Letterboxed

_BLOCK, _PAIRS = 512, 1 << 18  # boxes, and pairs of them, that are looked at at once
_THIN = 1.0  # square pixels: of smaller boxes the constants of ProbIoU are no longer small


def rotated(output: Floats, rules: Rules, box: Letterboxed, layout: Layout) -> Rotated:
    """Rotated boxes of one image: from its anchors `[4 + classes + 1, anchors]`, or from its rows `[k, 7]`."""
    if layout == "anchors" and rules.iou is not None:
        found = suppress(decode(output, rules), rules)
    else:
        found = confident(output if layout == "rows" else best_rows(output), rules)
    return Rotated(to_original(found.boxes, box), found.scores, found.classes)


def best_rows(raw: Floats, count: int = ROWS) -> Floats:
    """The best pairs of an anchor and a class `[k, 7]` of anchors `[4 + classes + 1, anchors]`, best first.

    A row is cx, cy, w, h, score, class, angle. The selection is that of detection: of the k = min(count, anchors)
    anchors with the best scores, the k best pairs; of equal scores, the first anchor and class go first.
    """
    scores = raw[4:-1]
    anchors = np.argsort(-scores.max(0), kind="stable")[:count]
    pairs = scores[:, anchors].T.reshape(-1)
    best = np.argsort(-pairs, kind="stable")[: len(anchors)]
    chosen, classes = anchors[best // len(scores)], best % len(scores)
    columns = (*raw[:4, chosen], pairs[best], classes.astype(np.float32), raw[-1, chosen])
    return np.stack(columns, axis=1)


def confident(rows: Floats, rules: Rules) -> Rotated:
    """The rows above the confidence threshold, best first, in letterboxed pixels."""
    kept = rows[rows[:, 4] > rules.confidence][: rules.limit]
    return Rotated(kept[:, [0, 1, 2, 3, 6]], kept[:, 4], kept[:, 5].astype(np.int64))


def decode(raw: Floats, rules: Rules) -> Rotated:
    """Candidates above the confidence threshold, best first, in letterboxed pixels."""
    scores = raw[4:-1]
    able = np.flatnonzero(scores.max(0) > rules.confidence)  # far fewer than all
    if rules.multi_label:
        classes, places = np.nonzero(scores[:, able] > rules.confidence)
    else:
        classes, places = scores[:, able].argmax(0), np.arange(len(able))
    anchors = able[places]
    chosen = scores[classes, anchors]
    order = np.argsort(-chosen, kind="stable")[:MAX_CANDIDATES]
    return Rotated(boxes_at(raw, anchors[order]), chosen[order], classes[order].astype(np.int64))


def boxes_at(raw: Floats, anchors: NDArray[np.integer]) -> Floats:
    """The boxes `[n, 5]` of some anchors."""
    boxes: Floats = np.concatenate([raw[:4, anchors], raw[-1:, anchors]]).T
    return boxes


def suppress(found: Rotated, rules: Rules) -> Rotated:
    """Non-maximum suppression within each class, which is not greedy.

    A box goes if its ProbIoU with any better one of its class is at least the threshold, whether that one stays or
    not ("Fast NMS" of YOLACT, https://arxiv.org/abs/1904.02689).
    """
    if not len(found) or rules.iou is None:
        return found
    kept = [np.zeros(0, np.int64)]
    for cls in np.unique(found.classes):
        members = np.flatnonzero(found.classes == cls)
        kept.append(members[_unrivalled(found.boxes[members], rules.iou, rules.limit)])
    return found.take(np.sort(np.concatenate(kept))[: rules.limit])


def _unrivalled(boxes: Floats, iou: float, limit: int) -> Ints:
    """The places of the first `limit` boxes that no better one is too similar to; best first."""
    wide = boxes.astype(np.float64)
    reach = _reach(wide, iou)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        kept = np.concatenate([kept, _free(wide, reach, block, iou)])
        if len(kept) >= limit:
            break
    return kept[:limit]


def _free(boxes: Floats64, reach: Floats64, block: Ints, iou: float) -> Ints:
    """Those of a block that no better box is too similar to.

    The best boxes are asked first: they suppress most, and what is suppressed need not be compared again.
    """
    low, last = 0, int(block[-1])
    while low < last and len(block):
        high = min(last, max(64, 8 * low), low + _PAIRS // len(block))
        better = np.arange(low, high)
        dx, dy = (boxes[block, None, axis] - boxes[None, better, axis] for axis in (0, 1))
        near = dx * dx + dy * dy <= reach[block, None] + reach[None, better]
        ours, theirs = np.nonzero(near & (block[:, None] > better))
        alike = prob_iou(boxes[better[theirs]], boxes[block[ours]]) >= iou
        block = np.delete(block, np.unique(ours[alike]))
        low = high
    return block


def _reach(boxes: Floats64, iou: float) -> Floats64:
    """Numbers `[n]` whose sum bounds the squared distance between the centres of two boxes that are similar enough.

    ProbIoU is at least t only if Bhattacharyya's distance is at most b = -ln(1 - (1 - t)^2). That is at least a
    quarter of the squared distance of the centres over the greatest variance of the sum, at most the sum of the greatest
    variances, which are those along the longer sides.
    """
    bound = max(-math.log(1 + EPS - (1 - iou) ** 2), 2 * EPS)
    reach: Floats64 = 4.004 * bound * (boxes[:, 2:4] ** 2).max(1) / 12  # 0.1 % more than enough
    reach[abs(boxes[:, 2] * boxes[:, 3]) < _THIN] = math.inf
    return reach
