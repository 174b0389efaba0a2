"""Thresholds of post-processing, which an app and the evaluation share. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolodeploy.recipe import Head


@dataclass(frozen=True)
class Rules:
    """How raw output becomes detections.

    `confidence` is the lowest score kept, `iou` the overlap above which the weaker of two boxes
    of one class is dropped, `limit` the number of detections kept per image. `multi_label`
    lets one anchor give a detection for each class above the threshold.

    Without `iou` nothing is dropped for its overlap: of the best pairs of an anchor and a class, as many as an
    artifact that ends in rows would give, those above the confidence are kept. So it is for one-to-one heads.
    """

    confidence: float
    iou: float | None
    limit: int
    multi_label: bool

    def for_head(self, head: Head) -> Rules:
        """The same rules for the output of a head: what a one-to-one head gives is not suppressed."""
        return replace(self, iou=None, multi_label=True) if head == "one-to-one" else self

    def with_thresholds(self, confidence: float | None, iou: float | None) -> Rules:
        """The same rules with these thresholds; None keeps one."""
        return replace(
            self,
            confidence=self.confidence if confidence is None else confidence,
            iou=self.iou if iou is None else iou,
        )


EVALUATION = Rules(0.001, 0.7, 300, multi_label=True)  # as in Ultralytics' `val`
APP = Rules(0.25, 0.7, 300, multi_label=False)  # as in Ultralytics' `predict`
MAX_CANDIDATES = 30_000  # that are suppressed, the best
BEST_CLASSES = 5  # that golden vectors and pictures of a classification show
COMPARED = 16  # images whose raw outputs are compared, evenly spread


_CLASSES = Rules(0.0, None, BEST_CLASSES, multi_label=False)  # nothing is left out or suppressed


def evaluation_rules(task: str) -> Rules:
    """The thresholds of the evaluation of a task, as in Ultralytics' `val`."""
    if task == "classify":
        return _CLASSES
    return replace(EVALUATION, confidence=0.01) if task == "obb" else EVALUATION


def app_rules(task: str) -> Rules:
    """The thresholds that an app gets for a task."""
    return _CLASSES if task == "classify" else APP
