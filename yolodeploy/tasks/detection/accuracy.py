"""Detections as labels, and the average precision of source and artifact on labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from yolodeploy.data import Box
from yolodeploy.tasks import comparison
from yolodeploy.tasks.detection.matching import Truth, matches
from yolodeploy.tasks.detection.postprocess import Detections
from yolodeploy.tasks.measures import Measure
from yolodeploy.tasks.thresholds import APP


def confident(found: Detections) -> Detections:
    """Detections with the confidence that an app asks for."""
    return found.take(np.flatnonzero(found.scores > APP.confidence))


def as_truth(found: Detections, image: Truth) -> Truth:
    """Confident detections as labels."""
    sure = confident(found)
    size = np.array([image.width, image.height])
    corners = sure.boxes.astype(np.float64)
    centres, sides = (corners[:, 2:] + corners[:, :2]) / 2 / size, corners[:, 2:] - corners[:, :2]
    rows = zip(sure.classes.tolist(), centres.tolist(), (sides / size).tolist(), strict=True)
    boxes = tuple(Box(cls, *centre, *side) for cls, centre, side in rows)
    return Truth(boxes, image.width, image.height)


def against_labels(
    truths: Sequence[Truth],
    theirs: Sequence[Detections],
    ours: Sequence[Detections],
    names: tuple[str, ...],
    confidence: float,
) -> Iterator[Measure]:
    """What source (`theirs`) and artifact (`ours`) score; drops have intervals of this confidence."""
    source, artifact = (matches(truths, found, len(names)) for found in (theirs, ours))
    return comparison.against_labels(source, artifact, names, confidence)
