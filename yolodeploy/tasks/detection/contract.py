"""What an app is told about the output of a detector, and what is left for it to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.backend import ROWS
from yolodeploy.tasks.thresholds import MAX_CANDIDATES

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.tasks.thresholds import Rules

NMS = (
    "take the best class of every anchor, and keep those with a score above `confidence`; best first, drop every box "
    "that overlaps a better one of its class by more than `iou`; keep at most `limit`"
)
BEST = (
    "no non-maximum suppression: take the `best` anchors with the highest scores, and of their pairs of an anchor and "
    "a class the `best` with the highest scores; keep those with a score above `confidence`"
)
PAIRS = (
    "no non-maximum suppression: a row is left, top, right, bottom in pixels of the input, score, class; keep those "
    "with a score above `confidence`. The rows are the `best` pairs of an anchor and a class, sorted by score"
)

EXACT_NMS = (
    "take the best class of every anchor (of equal scores the first), keep those with a score above `confidence`, and of "
    f"those the {MAX_CANDIDATES} best; go through them best first, of equal scores in the order of the anchors, and keep a "
    "box unless its IoU with one that was kept before and has its class is above `iou` (greedy: a dropped box drops no other); "
    "IoU is the area that two boxes in the input share, divided by the area that they cover together; keep at most `limit`"
)
EXACT_BEST = (
    "no non-maximum suppression: the score of an anchor is that of its best class; take the `best` anchors with the highest "
    "scores, and of their pairs of an anchor and a class the `best` with the highest scores; if there are fewer anchors "
    "than `best`, take all, and as many pairs as anchors. Of equal scores the first in that order comes first; an anchor may "
    "give several objects; keep those with a score above `confidence`"
)


def exact_postprocess(rules: Rules, layout: Layout) -> dict[str, Any]:
    """As `box_postprocess`, with a rule that leaves nothing open; a detector's stays, for locks have its digest."""
    told = box_postprocess(rules, layout)
    return told | {"rule": {NMS: EXACT_NMS, BEST: EXACT_BEST}.get(told["rule"], told["rule"])}


def box_postprocess(rules: Rules, layout: Layout) -> dict[str, Any]:
    """What is left for the app: whose work suppression is, how many pairs are taken, and the rule in words."""
    if layout == "rows":
        return {"layout": layout, "nms": "none", "best": ROWS, "rule": PAIRS}
    if rules.iou is None:
        return {"layout": layout, "nms": "none", "best": ROWS, "rule": BEST}
    return {"layout": layout, "nms": "app", "best": None, "rule": NMS}


def output_text(rules: Rules, layout: Layout) -> str:
    """What an output is, as the rest of a sentence."""
    if layout == "rows":
        return (
            "rows of left, top, right, bottom, score and class, best first; no suppression follows"
        )
    if rules.iou is None:
        return f"the raw head output; the best {ROWS} pairs of an anchor and a class are taken, without suppression"
    return "the raw head output, before suppression"
