"""What an app is told about the output of a model of rotated boxes: enough to decode it without asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.backend import OUTPUT, ROWS
from yolodeploy.tasks.detection import EXACT_BEST
from yolodeploy.tasks.thresholds import MAX_CANDIDATES

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.tasks.thresholds import Rules

PROB_IOU_EPS = 1e-7

_NMS = (
    "take the best class of every anchor (of equal scores the first), keep those with a score above `confidence`, and of those "
    f"the {MAX_CANDIDATES} best; best first, of equal scores in the order of the anchors, drop every box whose ProbIoU with any better one of its class is at least `iou`, whether that one was "
    "dropped or not (this is not greedy); keep at most `limit`"
)
_PAIRS = (
    "no non-maximum suppression: keep the rows with a score above `confidence`. They are the `best` pairs of an "
    "anchor and a class, sorted by score"
)
_BOX = (
    "a box is its centre cx, cy and its sides w, h in pixels, and the angle in radians by which the side w is turned from the "
    "x axis towards the y axis, which points down (clockwise as seen). The angle is as the model gives it: YOLOv8, 11 "
    "and 12 give [-pi/4, 3 pi/4), YOLO26 any number. Adding pi changes no box; w may be shorter than h"
)
_CORNERS = (
    "u = (w / 2) * (cos(angle), sin(angle)); v = (h / 2) * (-sin(angle), cos(angle)); the corners in order around the box: "
    "c + u + v, c + u - v, c - u - v, c - u + v"
)
_INVERSE = (
    "cx, cy as the points of `letterbox.inverse`; w / s, h / s; the angle stays; boxes are not clipped to the image. Of a stretched "
    "input, w is divided by the s of x (W / width) and h by that of y (H / height)"
)
_PROB_IOU = (
    f"eps = {PROB_IOU_EPS:.0e}; of each box p = w^2 / 12, q = h^2 / 12, c = cos(angle), s = sin(angle), a = p c^2 + q s^2, b = p s^2 + "
    "q c^2, k = (p - q) c s; of two boxes A = a1 + a2, B = b1 + b2, K = k1 + k2, D = A B - K^2, dx = x1 - x2, dy = y1 - y2; "
    "t1 = 0.25 (A dy^2 + B dx^2) / (D + eps); t2 = -0.5 K dx dy / (D + eps); "
    "t3 = 0.5 ln(D / (4 sqrt(max(a1 b1 - k1^2, 0) max(a2 b2 - k2^2, 0)) + eps) + eps); "
    "d = min(max(t1 + t2 + t3, eps), 100); ProbIoU = 1 - sqrt(1 - exp(-d) + eps)"
)


def obb_postprocess(rules: Rules, layout: Layout, classes: int) -> dict[str, Any]:
    """Whose work suppression is, how many pairs are taken, the rule in words, and every formula."""
    suppressed = layout == "anchors" and rules.iou is not None
    rule = _PAIRS if layout == "rows" else _NMS if suppressed else EXACT_BEST
    return {
        "layout": layout,
        "nms": "app" if suppressed else "none",
        "best": None if suppressed else ROWS,
        "rule": rule,
        "outputs": {OUTPUT: _output(layout, classes)},
        "box": _BOX,
        "corners": _CORNERS,
        "inverse": _INVERSE,
        **({"prob_iou": _PROB_IOU} if suppressed else {}),
    }


def output_text(rules: Rules, layout: Layout) -> str:
    """What the output is, as the rest of a sentence."""
    if layout == "rows":
        return "rows of cx, cy, w, h, score, class and angle, best first; no suppression follows"
    if rules.iou is None:
        return f"the raw head output; the best {ROWS} pairs of an anchor and a class are taken, without suppression"
    return "the raw head output, before suppression"


def _output(layout: Layout, classes: int) -> str:
    if layout == "rows":
        return (
            "[k, 7], a row is cx, cy, w, h in pixels of the input, score, class, angle in radians"
        )
    return (
        f"[{classes + 5}, anchors], a column is cx, cy, w, h in pixels of the input, {classes} scores in 0..1 in the order "
        "of labels.txt, angle in radians"
    )
