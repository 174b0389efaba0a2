"""Objects and their keypoints."""

from __future__ import annotations

from typing import Any

import detect
import numpy as np
from bundle import Bundle, Found, clip_to_image, to_image

DRAWN = 0.5  # keypoints with a visibility above this are drawn


def decode(bundle: Bundle) -> Found:
    """The golden results of a pose model: class, score, box, keypoints in pixels of the image."""
    rule = bundle.contract["postprocess"]["keypoints"]
    shape = (rule["count"], len(rule["numbers"]))
    return [
        {
            **detect.result(candidate, bundle.golden),
            "keypoints": keypoints(candidate.numbers.reshape(shape), bundle.golden),
        }
        for candidate in detect.choose(bundle.outputs["output"], bundle.contract)
    ]


def keypoints(numbers: np.ndarray, golden: dict[str, Any]) -> list[list[float]]:
    """Points mapped to the image and clipped to it, with their visibility; a model without that has 1 in its place."""
    points = clip_to_image(to_image(numbers[:, :2].astype(float), golden), golden)
    visible = numbers[:, 2:] if numbers.shape[1] == 3 else np.ones((len(numbers), 1))
    return [[float(value) for value in row] for row in np.hstack([points, visible])]


def describe(found: dict[str, Any]) -> str:
    """What is printed of a box and its keypoints; those that one would not draw are in brackets."""
    texts = []
    for x, y, visibility in found["keypoints"]:
        text = f"{x:.1f},{y:.1f}"
        texts.append(text if visibility > DRAWN else f"({text})")
    return f"{detect.describe(found)}, keypoints {' '.join(texts)}"


check = detect.check
