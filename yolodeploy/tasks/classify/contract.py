"""What an app is told about the output of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.backend import OUTPUT

if TYPE_CHECKING:
    from yolodeploy.tasks.thresholds import Rules

PROBABILITIES = "probabilities"  # the layout
OUTPUT_TEXT = "one probability for each class in the order of labels.txt, after softmax"
_STEPS = (
    "`output` holds one probability for each class, after softmax: apply none again",
    "probability i is of the class in line i of labels.txt, counted from 0",
    "an artifact that returns a dictionary has the same numbers by name, and may return the best name as well",
    "sort the classes by probability, the highest first, of equals the lower index; the first is the class of the image",
)


def classify_postprocess(rules: Rules, classes: int) -> dict[str, Any]:
    """What the output is, and how an app gets the best classes."""
    return {
        "layout": PROBABILITIES,
        "nms": "none",
        "best": min(rules.limit, classes),
        "outputs": {OUTPUT: f"[{classes}] probabilities in 0..1, their sum is 1"},
        "rule": "; ".join(_STEPS),
    }
