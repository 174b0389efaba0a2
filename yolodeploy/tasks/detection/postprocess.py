"""From the output of a model to detections: one decoding and one NMS for every backend.

Which rules apply follows from the head (`Rules.for_head`) and from what the predictor says that it returns
(`layout_of`), never from the shape of an output:

* anchors of a one-to-many head: candidates above the confidence, then non-maximum suppression;
* anchors of a one-to-one head: the best pairs of an anchor and a class, without suppression;
* rows, which the artifact has selected itself: those above the confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Layout
from yolodeploy.data import Letterboxed
from yolodeploy.tasks.detection.rows import best_rows
from yolodeploy.tasks.thresholds import Rules

Floats = NDArray[np.float32]

MAX_CANDIDATES = 30_000


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first.

    `boxes` is float32 `[n, 4]`: left, top, right, bottom in pixels of the original image;
    `scores` float32 `[n]` in 0..1; `classes` int64 `[n]`.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


def save_detections(file: Path, images: Sequence[Detections]) -> None:
    """Write the detections of several images as one .npz file."""
    np.savez(
        file,
        counts=np.array([len(found) for found in images], np.int64),
        boxes=np.concatenate([found.boxes for found in images]),
        scores=np.concatenate([found.scores for found in images]),
        classes=np.concatenate([found.classes for found in images]),
    )


def load_detections(file: Path) -> list[Detections]:
    """Read what `save_detections` wrote, image by image."""
    with np.load(file) as data:
        ends = np.cumsum(data["counts"])[:-1]
        fields = [np.split(data[name], ends) for name in ("boxes", "scores", "classes")]
    return [Detections(*values) for values in zip(*fields, strict=True)]


def detect(output: Floats, rules: Rules, box: Letterboxed, layout: Layout) -> Detections:
    """Detections of one image: from its anchors `[4 + classes, anchors]`, or from its rows `[k, 6]`."""
    if layout == "anchors" and rules.iou is not None:
        found = suppress(decode(output, rules), rules)
    else:
        found = confident(output if layout == "rows" else best_rows(output), rules)
    return Detections(to_original(found.boxes, box), found.scores, found.classes)


def confident(rows: Floats, rules: Rules) -> Detections:
    """The rows above the confidence threshold, best first, boxes in letterboxed pixels."""
    kept = rows[rows[:, 4] > rules.confidence][: rules.limit]
    return Detections(kept[:, :4], kept[:, 4], kept[:, 5].astype(np.int64))


def decode(raw: Floats, rules: Rules) -> Detections:
    """Candidates above the confidence threshold, best first, boxes in letterboxed pixels."""
    scores = raw[4:]
    if rules.multi_label:
        able = np.flatnonzero(scores.max(0) > rules.confidence)  # far fewer than all
        classes, anchors = np.nonzero(scores[:, able] > rules.confidence)
        anchors = able[anchors]
    else:
        best = scores.argmax(0)
        anchors = np.flatnonzero(scores[best, np.arange(scores.shape[1])] > rules.confidence)
        classes = best[anchors]
    chosen = scores[classes, anchors]
    order = np.argsort(-chosen, kind="stable")[:MAX_CANDIDATES]
    anchors, classes = anchors[order], classes[order]
    x, y, width, height = raw[:4, anchors]
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return Detections(corners, chosen[order], classes.astype(np.int64))


def suppress(found: Detections, rules: Rules) -> Detections:
    """Non-maximum suppression within each class."""
    if not len(found) or rules.iou is None:
        return found
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    rectangles = np.concatenate([found.boxes[:, :2], sizes], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        rectangles,  # type: ignore[arg-type]
        found.scores,  # type: ignore[arg-type]
        found.classes.astype(np.int32),  # type: ignore[arg-type]
        score_threshold=0.0,
        nms_threshold=rules.iou,
    )
    best = np.sort(np.asarray(kept, np.int64).reshape(-1))[: rules.limit]
    return Detections(found.boxes[best], found.scores[best], found.classes[best])


def to_original(boxes: Floats, box: Letterboxed) -> Floats:
    """Map corners from letterboxed to original pixels, clipped to the image."""
    shift = np.array([box.left, box.top, box.left, box.top], np.float32)
    bounds = np.array([box.width, box.height, box.width, box.height], np.float32)
    mapped: Floats = np.clip((boxes - shift) / np.array(box.scale * 2, np.float32), 0, bounds)
    return mapped
