"""How well found masks fit labelled ones: by IoU of their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.detection import box_fits
from yolodeploy.tasks.matching import Fits, Matches
from yolodeploy.tasks.segment.found import Segments
from yolodeploy.tasks.segment.labels import SegmentTruth
from yolodeploy.tasks.thresholds import APP

Floats64 = NDArray[np.float64]

_PAINTED = 1.0  # px by which a mask may lie outside of the box of its polygon


def mask_matches(
    truths: Sequence[SegmentTruth], found: Sequence[Segments], classes: int
) -> Matches:
    """Masks matched with labelled ones, image by image; an object's size is the number of its pixels.

    Labels without a pixel do not count.
    """
    pairs = zip(truths, found, strict=True)
    return Matches((_fits(truth, segments) for truth, segments in pairs), classes)


def box_matches(truths: Sequence[SegmentTruth], found: Sequence[Segments], classes: int) -> Matches:
    """Boxes matched with those of the polygons, image by image."""
    pairs = zip(truths, found, strict=True)
    return Matches((box_fits(t.boxes, t.classes, segments.boxed) for t, segments in pairs), classes)


def as_truth(found: Segments) -> SegmentTruth:
    """What was found with confidence as labels; what has no pixel is none."""
    kept = np.flatnonzero((found.scores > APP.confidence) & (found.masks.areas > 0))
    corners = found.boxes[kept].astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return SegmentTruth(found.classes[kept], boxes, found.masks.take(kept))


def _fits(truth: SegmentTruth, found: Segments) -> Fits:
    areas = truth.masks.areas
    similarity = np.zeros((len(found), len(areas)))
    near = _may_match(truth, found)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    similarity[np.ix_(rows, columns)] = found.masks.take(rows).iou(truth.masks.take(columns))
    return Fits(
        truth.classes, areas, found.classes, found.masks.areas, found.scores, similarity, areas == 0
    )


def _may_match(truth: SegmentTruth, found: Segments) -> NDArray[np.bool_]:
    """Pairs `[n, m]` whose masks may have an IoU of 0.5: both have that share of their pixels where their boxes overlap.

    With an IoU of t the common pixels are at least t / (1 + t) of the sum of both areas.
    """
    ours = found.boxes.astype(np.float64)
    theirs = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
    theirs += (-_PAINTED, -_PAINTED, _PAINTED, _PAINTED)
    low = np.maximum(ours[:, None, :2], theirs[:, :2])
    high = np.minimum(ours[:, None, 2:], theirs[:, 2:])
    common = np.ceil(high - low + 1).clip(0).prod(2)
    needed = (found.masks.areas[:, None] + truth.masks.areas) / 3
    both = (found.masks.areas[:, None] > 0) & (truth.masks.areas > 0)
    same = found.classes[:, None] == truth.classes
    flags: NDArray[np.bool_] = both & same & (common >= needed)
    return flags
