"""Draws poses into an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from yolodeploy.tasks.detection import colour_of, draw_boxes, line_width
from yolodeploy.tasks.pose.matching import COCO_SPREADS, LABELLED

if TYPE_CHECKING:
    from yolodeploy.data import Pixels
    from yolodeploy.tasks.pose.found import Poses

# Limbs of COCO's 17 keypoints; what other keypoints are joined by is not known.
_LIMBS = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
    *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)


def draw_poses(image: Pixels, found: Poses, names: tuple[str, ...]) -> Pixels:
    """A copy of an RGB image with boxes, classes and scores, and the visible keypoints, each in a colour of its own.

    The 17 keypoints of COCO are joined to limbs.
    """
    drawn = draw_boxes(image, found.boxes, found.classes, found.scores, names)
    width = line_width(image)
    for keypoints, cls in zip(found.keypoints, found.classes.tolist(), strict=True):
        points = [tuple(point) for point in keypoints[:, :2].round().astype(int).tolist()]
        seen = (keypoints[:, 2] > LABELLED).tolist()
        for start, end in _LIMBS if len(points) == len(COCO_SPREADS) else ():
            if seen[start] and seen[end]:
                cv2.line(drawn, points[start], points[end], colour_of(cls), width, cv2.LINE_AA)
        for number, point in enumerate(points):
            if seen[number]:
                cv2.circle(drawn, point, 2 * width, colour_of(number), cv2.FILLED, cv2.LINE_AA)
    return drawn
