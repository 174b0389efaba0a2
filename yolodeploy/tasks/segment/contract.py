"""What an app is told about the outputs of a segment model: the steps from numbers to masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.tasks.detection import exact_postprocess, output_text

if TYPE_CHECKING:
    from yolodeploy.backend import Layout
    from yolodeploy.tasks.thresholds import Rules

COEFFICIENTS = 32  # of a mask, and as many prototypes
STRIDE = 4  # pixels of the input for each of the prototypes

_ANCHORS = (
    "[4 + classes + 32, anchors], a column for each anchor: centre x, centre y, width and height of the box in pixels "
    "of the input, a score in 0..1 for each class, 32 mask coefficients"
)
_ROWS = (
    "[k, 38], a row for each object: left, top, right and bottom of the box in pixels of the input, score, class, 32 "
    "mask coefficients"
)
_PROTOTYPES = "[32, h, w], the second of the artifact's `outputs`: maps of the whole input, 1 of their pixels for 4 x 4 of the input"
_KEEP = "apply `rule`; each object keeps the 32 coefficients of its anchor or row"
_MAP = (
    "map the corners of its box to pixels of the original image (`letterbox: inverse`), and clip them to 0..width and "
    "0..height of that; do not round them"
)
_SUM = (
    "add the prototypes, each times its coefficient: m[j, i] = sum over c of coefficient[c] * prototypes[c, j, i]. Apply no "
    "sigmoid"
)
_PLACE = (
    "for each pixel (x, y) of the original image with left <= x < right and top <= y < bottom of the box, "
    "u = ((x + 0.5) * s + letterbox left) / 4 - 0.5 and v = ((y + 0.5) * s + letterbox top) / 4 - 0.5, clipped to 0..w - 1 "
    "and 0..h - 1; a stretched input has its own s for x (W / width) and y (H / height), and no left and top"
)
_SAMPLE = (
    "sample m there bilinearly: with i = floor(u), j = floor(v), a = u - i, b = v - j the value is (1 - b) * ((1 - a) * "
    "m[j, i] + a * m[j, i + 1]) + b * ((1 - a) * m[j + 1, i] + a * m[j + 1, i + 1]); "
    "beyond the last column or row, where the weight is 0, take the last"
)
_INSIDE = (
    "the pixel belongs to the object if the value is above 0; all pixels outside the box do not"
)
_GOLDEN = (
    "the mask of each object as COCO's compressed RLE: `size` is [height, width] of the original image, `counts` the packed "
    "lengths of runs that go down the columns, the first of them outside the mask (cocoapi, maskApi.c: 5 bits in each character); "
    "`area` is the number of its pixels. A pixel may differ only if its value is so close to 0 that rounding decides"
)


def segment_postprocess(rules: Rules, layout: Layout) -> dict[str, Any]:
    """What is left for the app: that of a detector, then the mask of each object."""
    return {
        **exact_postprocess(rules, layout),
        "outputs": {OUTPUT: _ROWS if layout == "rows" else _ANCHORS, PROTOTYPES: _PROTOTYPES},
        "mask": {
            "coefficients": COEFFICIENTS,
            "prototypes": PROTOTYPES,
            "stride": STRIDE,
            "threshold": 0.0,
            "steps": [_KEEP, _MAP, _SUM, _PLACE, _SAMPLE, _INSIDE],
            "golden": _GOLDEN,
        },
    }


def segment_output_text(rules: Rules, layout: Layout) -> str:
    """What the main output is, as the rest of a sentence."""
    return f"{output_text(rules, layout)}; the last {COEFFICIENTS} numbers of each object weight the prototypes"
