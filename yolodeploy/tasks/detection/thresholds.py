"""Thresholds of post-processing, which an app and the evaluation share. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rules:
    """How raw output becomes detections.

    `confidence` is the lowest score kept, `iou` the overlap above which the weaker of two boxes
    of one class is dropped, `limit` the number of detections kept per image. `multi_label`
    lets one anchor give a detection for each class above the threshold.
    """

    confidence: float
    iou: float
    limit: int
    multi_label: bool

    def with_thresholds(self, confidence: float | None, iou: float | None) -> Rules:
        """The same rules with these thresholds; None keeps one."""
        return replace(
            self,
            confidence=self.confidence if confidence is None else confidence,
            iou=self.iou if iou is None else iou,
        )


EVALUATION = Rules(0.001, 0.7, 300, multi_label=True)  # as in Ultralytics' `val`
APP = Rules(0.25, 0.7, 300, multi_label=False)  # as in Ultralytics' `predict`
COMPARED = 16  # images whose raw outputs are compared, evenly spread
