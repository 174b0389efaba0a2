"""How much noise compression adds to the raw output of a detector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from yolodeploy.tasks.detection.postprocess import Floats


_TINY = 1e-12
ANCHORS = 100  # of an image: the best, which can become detections


def output_noise(reference: Iterable[Floats], compressed: Iterable[Floats]) -> float:
    """Relative noise power of raw outputs `[4 + classes, anchors]`, scores plus boxes.

    Scores: the sum of squared differences over the sum of squares. Boxes: the squared shift of the corners over
    the area of the box (at least one square pixel), averaged by score over the best anchors of each image,
    because the boxes of anchors that detect nothing are arbitrary.
    """
    noise, power, shift, weight = 0.0, 0.0, 0.0, 0.0
    for wanted, got in zip(reference, compressed, strict=True):
        exact, close = wanted.astype(np.float64), got.astype(np.float64)
        noise += float(((close[4:] - exact[4:]) ** 2).sum())
        power += float((exact[4:] ** 2).sum())
        scores = exact[4:].max(0)
        best = np.argsort(-scores, kind="stable")[:ANCHORS]
        squares = ((_corners(close[:4, best]) - _corners(exact[:4, best])) ** 2).mean(0)
        shift += float((scores[best] * squares / exact[2:4, best].prod(0).clip(1)).sum())
        weight += float(scores[best].sum())
    return noise / max(power, _TINY) + shift / max(weight, _TINY)


def _corners(boxes: Any) -> Any:
    """Left, top, right, bottom `[4, n]` from centre and size `[4, n]`."""
    return np.concatenate([boxes[:2] - boxes[2:] / 2, boxes[:2] + boxes[2:] / 2])
