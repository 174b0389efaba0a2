"""How far the raw outputs of two models are apart: anchors number by number, rows by pairs of the same box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.tasks.detection import Paired, pair_rows
from yolodeploy.tasks.obb.boxes import Floats, to_corners
from yolodeploy.tasks.obb.postprocess import best_rows, boxes_at

if TYPE_CHECKING:
    from yolodeploy.backend import Layout

ANCHORS = 100  # of an image: the best, which can become boxes
_TINY = 1e-12
_BOX = [0, 1, 2, 3, 6]  # of a row


def differences(source: Floats, artifact: Floats, layout: Layout) -> Mapping[str, Floats]:
    """Absolute differences of cx, cy, w and h in pixels, of scores, and of angles in radians.

    `source` are anchors `[4 + classes + 1, anchors]`; `artifact` is of its `layout`. If it ends in rows, the
    source's anchors become rows by the same selection, and pairs are compared.
    """
    if layout == "rows":
        return _row_differences(best_rows(source), artifact)
    apart = abs(artifact[:-1] - source[:-1])
    angles = angle_between(artifact[-1], source[-1])
    return {"boxes_px": apart[:4], "scores": apart[4:], "angles_rad": angles}


def angle_between(one: Floats, two: Floats) -> Floats:
    """The absolute difference of angles, at most pi / 2: half a turn changes no box."""
    apart = abs(one - two) % math.pi
    result: Floats = np.minimum(apart, math.pi - apart)
    return result


def noise(reference: Iterable[Floats], compressed: Iterable[Floats], layout: Layout) -> float:
    """Relative noise power of outputs, anchors or rows `[k, 7]`: scores plus boxes.

    Scores: the sum of squared differences over the sum of squares. Boxes: the squared shift of the corners over
    the area of the box (at least one square pixel), averaged by score over the best anchors of each image, as
    for detection. Of the ways to pair the corners of two boxes, the one with the least shift counts.
    """
    sums, add = _Sums(), _add_rows if layout == "rows" else _add_anchors
    for wanted, got in zip(reference, compressed, strict=True):
        add(sums, wanted.astype(np.float64), got.astype(np.float64))
    return sums.noise / max(sums.power, _TINY) + sums.shift / max(sums.weight, _TINY)


@dataclass
class _Sums:
    """Of all images: noise and power of the scores, shift of the boxes and what it is weighted with."""

    noise: float = 0.0
    power: float = 0.0
    shift: float = 0.0
    weight: float = 0.0


def _add_anchors(sums: _Sums, exact: Any, close: Any) -> None:
    sums.noise += float(((close[4:-1] - exact[4:-1]) ** 2).sum())
    sums.power += float((exact[4:-1] ** 2).sum())
    scores = exact[4:-1].max(0)
    best = np.argsort(-scores, kind="stable")[:ANCHORS]
    shift = _relative_shift(boxes_at(exact, best), boxes_at(close, best))
    sums.shift += float((scores[best] * shift).sum())
    sums.weight += float(scores[best].sum())


def _add_rows(sums: _Sums, exact: Any, close: Any) -> None:
    paired = _pairs(exact, close)
    ours, theirs = exact[paired.first], close[paired.second]
    lone = (paired.lost**2).sum() + (paired.added**2).sum()
    sums.noise += float(((theirs[:, 4] - ours[:, 4]) ** 2).sum() + lone)
    sums.power += float((exact[:, 4] ** 2).sum())
    best = paired.first < ANCHORS
    shift = _relative_shift(ours[best][:, _BOX], theirs[best][:, _BOX])
    sums.shift += float((ours[best, 4] * shift).sum())
    sums.weight += float(exact[:ANCHORS, 4].sum())


def _relative_shift(ours: Any, theirs: Any) -> Any:
    """The mean squared shift `[n]` of the coordinates of the corners over the area of our boxes `[n, 5]`."""
    here, there = to_corners(ours), to_corners(theirs)
    turned = [((np.roll(there, step, axis=1) - here) ** 2).mean(axis=(1, 2)) for step in range(4)]
    return np.min(turned, axis=0) / abs(ours[:, 2] * ours[:, 3]).clip(1)


def _pairs(one: Any, two: Any) -> Paired:
    """Rows of the same box: of the same class, with upright boxes of the same centre and sides near each other."""
    return pair_rows(*(_upright(rows) for rows in (one, two)))


def _upright(rows: Any) -> Any:
    centres, sides = rows[:, :2], abs(rows[:, 2:4])
    return np.concatenate([centres - sides / 2, centres + sides / 2, rows[:, 4:6]], axis=1)


def _row_differences(one: Floats, two: Floats) -> Mapping[str, Floats]:
    paired = _pairs(one, two)
    first, second = one[paired.first], two[paired.second]
    lone = (paired.lost[paired.lost > 0], paired.added[paired.added > 0])
    return {
        "boxes_px": abs(first[:, :4] - second[:, :4]),
        "scores": np.concatenate([abs(first[:, 4] - second[:, 4]), *lone]),
        "angles_rad": angle_between(first[:, 6], second[:, 6]),
    }
