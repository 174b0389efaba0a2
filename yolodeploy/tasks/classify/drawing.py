"""Pictures of classes: bars as long as the probabilities, with the names on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from yolodeploy.data import Pixels

_BAR, _DARK, _LIGHT = (41, 128, 185), 0.35, (255, 255, 255)  # RGB; what is left of the image below
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 30  # pixels of a line at scale 1


def draw_bars(image: Pixels, rows: Sequence[tuple[str, float]]) -> Pixels:
    """A copy of an image uint8 `[H, W, 3 or 1]` with one bar for each name and probability, from the top down.

    A bar of probability 1 is as long as half of the image.
    """
    height, width = image.shape[:2]
    line = max(1, min(height // (2 * max(len(rows), 1)), width // 8, 28))
    drawn = image.copy()
    whole = max(1, width // 2)
    area = drawn[: line * len(rows), :whole]
    area[:] = (area * _DARK).astype(np.uint8)
    for number, (name, probability) in enumerate(rows):
        top = number * line
        long = round(whole * min(max(probability, 0), 1))
        drawn[top : top + max(line - 1, 1), :long] = _BAR[: image.shape[2]]
        text, scale = f"{probability:.2f} {name}", line / _FONT_HEIGHT
        cv2.putText(
            drawn, text, (2, top + round(line * 0.75)), _FONT, scale, _LIGHT, 1, cv2.LINE_AA
        )
    return drawn
