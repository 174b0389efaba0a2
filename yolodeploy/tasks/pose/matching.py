"""How well found poses fit labelled ones: by object keypoint similarity (OKS).

OKS is that of COCO (https://cocodataset.org/#keypoints-eval), with two things as in Ultralytics' `val`: the area of an object
is 0.53 of its box, because there are no masks, and keypoints that are not the 17 of COCO all have the spread 1 / K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Pose
from yolodeploy.tasks.detection import box_fits, box_iou, boxes_of, sides_of
from yolodeploy.tasks.matching import Fits, Matches
from yolodeploy.tasks.pose.found import Poses
from yolodeploy.tasks.thresholds import APP

Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Nose, then left and right: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
COCO_SPREADS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
AREA = 0.53  # of a box that its object fills
LABELLED = 0.5  # visibility above which a found keypoint counts as one that is labelled


@dataclass(frozen=True, eq=False)
class PoseTruth:
    """The labelled poses of one image: classes `[n]`, boxes `[n, 4]` (left, top, width, height in pixels), keypoints.

    `keypoints` `[n, K, 3]` are x and y in pixels, and the visibility, 0 if the keypoint is not labelled.
    """

    classes: Ints
    boxes: Floats64
    keypoints: Floats64

    @property
    def labelled(self) -> Flags:
        """Which objects have a labelled keypoint `[n]`: COCO asks nobody to find the others."""
        flags = (self.keypoints[:, :, 2] > 0).any(1)
        return np.asarray(flags, np.bool_)


def read_poses(labels: Sequence[Pose], count: int, width: int, height: int) -> PoseTruth:
    """Labels with `count` keypoints each, in an image of this size in pixels."""
    boxes, classes = boxes_of([label.box for label in labels], width, height)
    points = np.array([label.keypoints for label in labels], np.float64).reshape(-1, count, 3)
    return PoseTruth(classes, boxes, points * (width, height, 1))


def as_truth(found: Poses) -> PoseTruth:
    """What was found with confidence as labels, see `as_labels`."""
    return as_labels(found.take(np.flatnonzero(found.scores > APP.confidence)))


def as_labels(found: Poses) -> PoseTruth:
    """What was found as labels; keypoints count as labelled if they are rather visible than not."""
    keypoints = found.keypoints.astype(np.float64)
    keypoints[..., 2] = keypoints[..., 2] > LABELLED
    return PoseTruth(found.classes, sides_of(found.boxes), keypoints)


def pose_matches(truths: Sequence[PoseTruth], found: Sequence[Poses], classes: int) -> Matches:
    """Poses matched with labelled ones, image by image; an object's size is 0.53 of its box.

    Objects without a labelled keypoint do not count, nor does what is found there.
    """
    pairs = zip(truths, found, strict=True)
    return Matches((_fits(truth, some) for truth, some in pairs), classes)


def box_matches(truths: Sequence[PoseTruth], found: Sequence[Poses], classes: int) -> Matches:
    """Boxes matched with labelled ones, image by image; they count without keypoints too."""
    pairs = zip(truths, found, strict=True)
    return Matches((box_fits(t.boxes, t.classes, some.boxed) for t, some in pairs), classes)


def _fits(truth: PoseTruth, found: Poses) -> Fits:
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).astype(np.float64)
    areas = AREA * truth.boxes[:, 2:].clip(0).prod(1)
    similarity = oks(found.keypoints.astype(np.float64), truth)
    return Fits(
        truth.classes,
        areas,
        found.classes,
        AREA * sides.prod(1),
        found.scores,
        similarity,
        ~truth.labelled,
    )


def similarity(source: Poses, artifact: Poses) -> Floats64:
    """How similar what two models found is `[n, m]`: OKS, or the IoU of the boxes where the source sees no keypoint."""
    labels = as_labels(source)
    found = oks(artifact.keypoints.astype(np.float64), labels).T
    boxes = box_iou(labels.boxes, sides_of(artifact.boxes))
    result: Floats64 = np.where(labels.labelled[:, None], found, boxes)
    return result


def oks(keypoints: Floats64, truth: PoseTruth) -> Floats64:
    """OKS `[n, m]` in 0..1 of found keypoints `[n, K, 3]`.

    Keypoints that are not labelled do not count. Of an object without any, as in COCO's code, all count that lie outside
    of its box made three times as wide and high.
    """
    seen = truth.keypoints[:, :, 2] > 0
    away = keypoints[:, None, :, :2] - truth.keypoints[:, :, :2]
    start, size = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]
    near, far = start - size, start + 2 * size
    outside = np.maximum(near - keypoints[:, None, :, :2], 0)
    outside += np.maximum(keypoints[:, None, :, :2] - far, 0)
    labelled = truth.labelled
    away[:, ~labelled] = outside[:, ~labelled]
    spread = 2 * spreads(keypoints.shape[1])
    areas = AREA * truth.boxes[:, 2:].clip(0).prod(1) + np.spacing(1)
    errors = (away**2).sum(3) / spread**2 / areas[:, None] / 2
    counted = seen | ~labelled[:, None]
    result: Floats64 = (np.exp(-errors) * counted).sum(2) / counted.sum(1)
    return result


def spreads(count: int) -> Floats64:
    """The spread of each of `count` keypoints, how far apart people label it as part of the object's size."""
    if count == len(COCO_SPREADS):
        return np.array(COCO_SPREADS)
    return np.full(count, 1 / count)
