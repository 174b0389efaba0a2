"""Draws boxes into an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.data import Pixels

# Tableau's ten colours, which people with colour vision deficiency tell apart fairly well.
COLOURS = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)


def colour_of(cls: int) -> tuple[int, int, int]:
    """The colour of a class, RGB."""
    return COLOURS[cls % len(COLOURS)]


def draw_boxes(
    image: Pixels,
    boxes: NDArray[np.float32],
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    names: tuple[str, ...],
) -> Pixels:
    """A copy of an RGB image with boxes `[n, 4]` (left, top, right, bottom in pixels) and their names."""
    drawn = image.copy()
    thick = line_width(image)
    for box, cls, score in zip(
        boxes.round().astype(int).tolist(), classes.tolist(), scores.tolist(), strict=True
    ):
        left, top, right, bottom = box
        cv2.rectangle(drawn, (left, top), (right, bottom), colour_of(cls), thick)
        write(drawn, f"{names[cls]} {score:.2f}", (left, top), colour_of(cls))
    return drawn


def write(image: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write text into an image, above a point where there is room, else below it."""
    scale = max(min(image.shape[:2]) / 1000, 0.3)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left, top = at
    base = top - 2 if top > height + 2 else top + height + 2
    cv2.rectangle(image, (left, base - height - 1), (left + width, base + 2), colour, cv2.FILLED)
    cv2.putText(
        image, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA
    )


def line_width(image: Pixels) -> int:
    """A width of lines that suits the size of an image, in pixels."""
    return max(1, int(min(image.shape[:2])) // 300)
