"""What an app is told about the output of a pose model: the steps from numbers to keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.detection import exact_postprocess, output_text

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.tasks.thresholds import Rules

_ANCHORS = (
    "[4 + classes + {extras}, anchors], a column for each anchor: centre x, centre y, width and height of the box in "
    "pixels of the input, a score in 0..1 for each class, the {extras} numbers of its {count} keypoints"
)
_ROWS = (
    "[k, 6 + {extras}], a row for each object: left, top, right and bottom of the box in pixels of the input, score, "
    "class, the {extras} numbers of its {count} keypoints"
)
_KEEP = "apply `rule`; each object keeps the keypoints of its anchor or row"
_MAP = (
    "map the corners of its box and its keypoints to pixels of the original image (`letterbox: inverse`), and clip x to "
    "0..width and y to 0..height of that"
)
_VISIBLE = (
    "a visibility is the probability in 0..1 that a person would label the keypoint, hidden ones too; the sigmoid is already "
    "applied. Keep the keypoints, and draw those above 0.5"
)
_ALWAYS = "the model gives no visibility; the golden keypoints have 1 in its place"


def pose_postprocess(rules: Rules, layout: Layout, shape: tuple[int, int]) -> dict[str, Any]:
    """What is left for the app: that of a detector, then the keypoints of each object."""
    count, numbers = shape
    output = (_ROWS if layout == "rows" else _ANCHORS).format(extras=count * numbers, count=count)
    each = ("x", "y", "visibility")[:numbers]
    return {
        **exact_postprocess(rules, layout),
        "outputs": {OUTPUT: output},
        "keypoints": {
            "count": count,
            "numbers": list(each),
            "order": f"keypoint by keypoint: number d of keypoint k is number k * {numbers} + d of the extra ones, both counted from 0",
            "unit": "pixels of the input; no anchor or stride is left to apply",
            "visibility": _VISIBLE if numbers == 3 else _ALWAYS,
            "steps": [_KEEP, _MAP],
        },
    }


def pose_output_text(rules: Rules, layout: Layout, shape: tuple[int, int]) -> str:
    """What the main output is, as the rest of a sentence."""
    count, numbers = shape
    return f"{output_text(rules, layout)}; the last {count * numbers} numbers of each object are its {count} keypoints"
