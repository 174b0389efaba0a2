"""From the output of a model to detections: one decoding and one NMS for every backend.

Which rules apply follows from the head (`Rules.for_head`) and from what the predictor says that it returns
(`layout_of`), never from the shape of an output:

* anchors of a one-to-many head: candidates above the confidence, then non-maximum suppression;
* anchors of a one-to-one head: the best pairs of an anchor and a class, without suppression;
* rows, which the artifact has selected itself: those above the confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Layout
from yolodeploy.data import Letterboxed
from yolodeploy.tasks.detection.rows import best_rows
from yolodeploy.tasks.thresholds import MAX_CANDIDATES, Rules

Floats = NDArray[np.float32]


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

    def take(self, places: NDArray[np.int64]) -> Detections:
        """Some of them, by their places `[k]`."""
        return Detections(self.boxes[places], self.scores[places], self.classes[places])


def detect(output: Floats, rules: Rules, box: Letterboxed, layout: Layout) -> Detections:
    """Detections of one image: from its anchors `[4 + classes, anchors]`, or from its rows `[k, 6]`."""
    found, _ = choose(output, rules, layout)
    return Detections(to_original(found.boxes, box), found.scores, found.classes)


def choose(
    output: Floats, rules: Rules, layout: Layout, extras: int = 0
) -> tuple[Detections, Floats]:
    """What is found in one image, boxes in letterboxed pixels, and the extra numbers of each `[n, extras]`.

    The output is anchors `[4 + classes + extras, anchors]` or rows `[k, 6 + extras]`.
    """
    if layout == "anchors" and rules.iou is not None:
        main, more = output[: len(output) - extras], output[len(output) - extras :]
        found, anchors = candidates(main, rules)
        kept = survivors(found, rules)
        return found.take(kept), np.ascontiguousarray(more[:, anchors[kept]].T)
    rows = output if layout == "rows" else best_rows(output, extras=extras)
    rows = rows[rows[:, 4] > rules.confidence][: rules.limit]
    found = Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))
    return found, rows[:, 6:]


def decode(raw: Floats, rules: Rules) -> Detections:
    """Candidates above the confidence threshold, best first, boxes in letterboxed pixels."""
    return candidates(raw, rules)[0]


def candidates(raw: Floats, rules: Rules) -> tuple[Detections, NDArray[np.int64]]:
    """Candidates as `decode` gives them, and the anchors that they come from."""
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
    return Detections(corners, chosen[order], classes.astype(np.int64)), anchors


def suppress(found: Detections, rules: Rules) -> Detections:
    """Non-maximum suppression within each class."""
    return found if rules.iou is None else found.take(survivors(found, rules))


def survivors(found: Detections, rules: Rules) -> NDArray[np.int64]:
    """The places of the detections that non-maximum suppression keeps, best first."""
    if not len(found) or rules.iou is None:
        return np.arange(len(found))
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    rectangles = np.concatenate([found.boxes[:, :2], sizes], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        rectangles,  # type: ignore[arg-type]
        found.scores,  # type: ignore[arg-type]
        found.classes.astype(np.int32),  # type: ignore[arg-type]
        score_threshold=0.0,
        nms_threshold=rules.iou,
    )
    return np.sort(np.asarray(kept, np.int64).reshape(-1))[: rules.limit]


def to_original(boxes: Floats, box: Letterboxed) -> Floats:
    """Map corners from letterboxed to original pixels, clipped to the image."""
    shift = np.array([box.left, box.top, box.left, box.top], np.float32)
    bounds = np.array([box.width, box.height, box.width, box.height], np.float32)
    mapped: Floats = np.clip((boxes - shift) / np.array(box.scale * 2, np.float32), 0, bounds)
    return mapped
