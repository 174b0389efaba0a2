"""How much noise compression adds to the output of a detector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.tasks.detection.rows import pair_rows

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.tasks.detection.postprocess import Floats


TINY = 1e-12
ANCHORS = 100  # of an image: the best, which can become detections


@dataclass
class Noise:
    """Of the images so far: noise and power of the scores, shift of the boxes and what it is weighted with."""

    noise: float = 0.0
    power: float = 0.0
    shift: float = 0.0
    weight: float = 0.0

    def add(self, exact: Floats, close: Floats, layout: Layout) -> None:
        """Add the outputs of an image, see `output_noise`."""
        add = _add_rows if layout == "rows" else _add_anchors
        add(self, exact.astype(np.float64), close.astype(np.float64))

    def total(self) -> float:
        """The relative noise power."""
        return self.noise / max(self.power, TINY) + self.shift / max(self.weight, TINY)


def output_noise(
    reference: Iterable[Floats], compressed: Iterable[Floats], layout: Layout = "anchors"
) -> float:
    """Relative noise power of outputs, anchors `[4 + classes, anchors]` or rows `[k, 6]`: scores plus boxes.

    Scores: the sum of squared differences over the sum of squares. Boxes: the squared shift of the corners over
    the area of the box (at least one square pixel), averaged by score over the best anchors of each image,
    because the boxes of anchors that detect nothing are arbitrary.

    Rows come in the order of their scores, so those of the same detection are paired first (`pair_rows`). The score
    of a row without a pair differs by what it lies above the lowest row of the other output. Only the boxes of pairs
    shift; what a lost row costs is in the scores.
    """
    sums = Noise()
    for wanted, got in zip(reference, compressed, strict=True):
        sums.add(wanted, got, layout)
    return sums.total()


def _add_anchors(sums: Noise, exact: Any, close: Any) -> None:
    sums.noise += float(((close[4:] - exact[4:]) ** 2).sum())
    sums.power += float((exact[4:] ** 2).sum())
    scores = exact[4:].max(0)
    best = np.argsort(-scores, kind="stable")[:ANCHORS]
    squares = ((_corners(close[:4, best]) - _corners(exact[:4, best])) ** 2).mean(0)
    sums.shift += float((scores[best] * squares / exact[2:4, best].prod(0).clip(1)).sum())
    sums.weight += float(scores[best].sum())


def _add_rows(sums: Noise, exact: Any, close: Any) -> None:
    paired = pair_rows(exact, close)
    ours, theirs = exact[paired.first], close[paired.second]
    lone = (paired.lost**2).sum() + (paired.added**2).sum()
    sums.noise += float(((theirs[:, 4] - ours[:, 4]) ** 2).sum() + lone)
    sums.power += float((exact[:, 4] ** 2).sum())
    best = paired.first < ANCHORS
    squares = ((theirs[best, :4] - ours[best, :4]) ** 2).mean(1)
    areas = (ours[best, 2:4] - ours[best, :2]).prod(1).clip(1)
    sums.shift += float((ours[best, 4] * squares / areas).sum())
    sums.weight += float(exact[:ANCHORS, 4].sum())


def _corners(boxes: Any) -> Any:
    """Left, top, right, bottom `[4, n]` from centre and size `[4, n]`."""
    return np.concatenate([boxes[:2] - boxes[2:] / 2, boxes[:2] + boxes[2:] / 2])
