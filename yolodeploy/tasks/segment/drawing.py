"""Draws masks into an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yolodeploy.tasks.detection import colour_of, draw_boxes

if TYPE_CHECKING:
    from yolodeploy.data import Pixels
    from yolodeploy.tasks.segment.found import Segments

_OPAQUE = 0.5


def draw_segments(image: Pixels, found: Segments, names: tuple[str, ...]) -> Pixels:
    """A copy of an RGB image with translucent masks, the best on top, then boxes, classes and scores."""
    drawn = image.copy()
    for place in range(len(found))[::-1]:
        inside = found.masks.pixels(place)
        colour = np.array(colour_of(int(found.classes[place])))
        drawn[inside] = (image[inside] * (1 - _OPAQUE) + colour * _OPAQUE).astype(np.uint8)
    return draw_boxes(drawn, found.boxes, found.classes, found.scores, names)
