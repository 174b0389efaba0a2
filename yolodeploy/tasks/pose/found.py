"""What a pose model finds in an image: from raw outputs, and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.detection import Detections, choose, to_original

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.data import Letterboxed
    from yolodeploy.tasks.thresholds import Rules

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Poses:
    """Objects found in one image, best first.

    `boxes` is float32 `[n, 4]`: left, top, right, bottom in pixels of the original image; `scores` float32 `[n]` in 0..1;
    `classes` int64 `[n]`; `keypoints` float32 `[n, K, 3]`: x and y in pixels of the original image, inside it, and the
    visibility in 0..1: the probability that somebody would label the keypoint. It is 1 if the model gives none.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]
    keypoints: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, places: NDArray[np.int64]) -> Poses:
        """Some of them, by their places `[k]`."""
        rest = self.scores[places], self.classes[places], self.keypoints[places]
        return Poses(self.boxes[places], *rest)

    @property
    def boxed(self) -> Detections:
        """Without their keypoints."""
        return Detections(self.boxes, self.scores, self.classes)


def poses(
    output: Floats, shape: tuple[int, int], rules: Rules, box: Letterboxed, layout: Layout
) -> Poses:
    """The poses in one image: from its anchors `[4 + classes + K * D, anchors]` or its rows `[k, 6 + K * D]`.

    `shape` is (K, D): the number of keypoints, and of the numbers of each.
    """
    found, extras = choose(output, rules, layout, shape[0] * shape[1])
    points = extras.reshape(-1, *shape)
    keypoints = np.ones((len(points), shape[0], 3), np.float32)
    keypoints[..., : shape[1]] = points
    shift = np.array([box.left, box.top], np.float32)
    bounds = np.array([box.width, box.height], np.float32)
    mapped = (keypoints[..., :2] - shift) / np.array(box.scale, np.float32)
    keypoints[..., :2] = np.clip(mapped, 0, bounds)
    return Poses(to_original(found.boxes, box), found.scores, found.classes, keypoints)
