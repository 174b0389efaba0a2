"""Rotated boxes."""

from __future__ import annotations

from math import cos, exp, log, sin, sqrt
from typing import Any

import detect
import numpy as np
from bundle import Bundle, Found, scales, to_image
from detect import Candidate

MOST = 30000  # candidates that take part in suppression, by `rule`
EPS = 1e-7  # of `prob_iou`


def decode(bundle: Bundle) -> Found:
    """The golden results: class, score, centre, size, angle and corners in pixels of the image."""
    return [
        result(candidate, bundle.golden)
        for candidate in choose(bundle.outputs["output"], bundle.contract)
    ]


def choose(output: np.ndarray, contract: dict[str, Any]) -> list[Candidate]:
    """The boxes that `postprocess.rule` keeps, best first; cx, cy, w, h in pixels of the input."""
    rules = contract["thresholds"]
    match contract["postprocess"]["layout"], contract["postprocess"]["nms"]:
        case "rows", "none":
            chosen = detect.rows(output, rules["confidence"])
        case "anchors", "none":
            chosen = detect.best_pairs(output, contract)
        case "anchors", "app":
            chosen = suppress(detect.best_classes(output, contract)[:MOST], rules["iou"])
        case layout, nms:
            raise ValueError(f"cannot decode layout {layout!r} with nms {nms!r}")
    return chosen[: rules["limit"]]


def suppress(candidates: list[Candidate], limit: float) -> list[Candidate]:
    """Drops every box whose ProbIoU with any better one of its class is at least `iou`.

    Whether that one was dropped or not: this is not greedy.
    """
    kept = []
    for place, each in enumerate(candidates):
        better = [other for other in candidates[:place] if other.index == each.index]
        if all(prob_iou(other, each) < limit for other in better):
            kept.append(each)
    return kept


def prob_iou(one: Candidate, other: Candidate) -> float:
    """The overlap of two rotated boxes as `prob_iou` of the contract has it."""
    (a1, b1, k1), (a2, b2, k2) = _spread(one), _spread(other)
    a, b, k = a1 + a2, b1 + b2, k1 + k2
    d = a * b - k * k
    dx, dy = one.box[:2] - other.box[:2]
    t1 = 0.25 * (a * dy**2 + b * dx**2) / (d + EPS)
    t2 = -0.5 * k * dx * dy / (d + EPS)
    both = max(a1 * b1 - k1 * k1, 0) * max(a2 * b2 - k2 * k2, 0)
    t3 = 0.5 * log(d / (4 * sqrt(both) + EPS) + EPS)
    distance = min(max(t1 + t2 + t3, EPS), 100)
    return 1 - sqrt(1 - exp(-distance) + EPS)


def _spread(candidate: Candidate) -> tuple[float, float, float]:
    """a, b, k of a box."""
    (w, h), angle = candidate.box[2:], float(candidate.numbers[0])
    p, q, c, s = w**2 / 12, h**2 / 12, cos(angle), sin(angle)
    return p * c**2 + q * s**2, p * s**2 + q * c**2, (p - q) * c * s


def result(candidate: Candidate, golden: dict[str, Any]) -> dict[str, Any]:
    """`inverse`: the centre as a point of the letterbox, w / s, h / s; the angle stays; nothing is clipped."""
    centre = to_image(candidate.box[:2], golden)
    size = candidate.box[2:] / scales(golden)
    angle = float(candidate.numbers[0])
    return {
        "class": candidate.index,
        "score": candidate.score,
        "centre": centre.tolist(),
        "size": size.tolist(),
        "angle": angle,
        "corners": corners(centre, size, angle),
    }


def corners(centre: np.ndarray, size: np.ndarray, angle: float) -> list[list[float]]:
    """`corners`: c + u + v, c + u - v, c - u - v, c - u + v."""
    u = size[0] / 2 * np.array([cos(angle), sin(angle)])
    v = size[1] / 2 * np.array([-sin(angle), cos(angle)])
    four = [centre + u + v, centre + u - v, centre - u - v, centre - u + v]
    return [point.tolist() for point in four]


def describe(found: dict[str, Any]) -> str:
    """What is printed of a box."""
    return "corners " + " ".join(f"{x:.1f},{y:.1f}" for x, y in found["corners"])


check = detect.check
