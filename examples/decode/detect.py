"""Boxes: from the artifact's output to what the contract's `rule` keeps, in pixels of the image.

Segmentation and pose choose their objects in the same way; rotated boxes use all but the overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from bundle import Bundle, Found, clip_to_image, differences, to_image


@dataclass(frozen=True)
class Candidate:
    """An object of the output.

    `box` is the first four numbers of its column or row, `numbers` are those after the scores or
    the class: mask coefficients, keypoints, the angle.
    """

    box: np.ndarray
    score: float
    index: int
    numbers: np.ndarray


def decode(bundle: Bundle) -> Found:
    """The golden results of a detector: class, score, box in pixels of the image."""
    return [
        result(candidate, bundle.golden)
        for candidate in choose(bundle.outputs["output"], bundle.contract)
    ]


def result(candidate: Candidate, golden: dict[str, Any]) -> dict[str, Any]:
    """Class, score and the box in pixels of the image: left, top, right, bottom."""
    corners = clip_to_image(to_image(candidate.box.reshape(2, 2), golden), golden)
    return {
        "class": candidate.index,
        "score": candidate.score,
        "box": [float(value) for value in corners.reshape(4)],
    }


def choose(output: np.ndarray, contract: dict[str, Any]) -> list[Candidate]:
    """The objects that `postprocess.rule` keeps, best first; boxes are left, top, right, bottom in the input.

    Where the artifact suppresses overlaps itself, an app has nothing to do; the golden output is
    the one before suppression, and its golden results are chosen as of "anchors".
    """
    rules = contract["thresholds"]
    match contract["postprocess"]["layout"], contract["postprocess"]["nms"]:
        case "rows", "none":
            chosen = rows(output, rules["confidence"])
        case "anchors", "none":
            chosen = [_with_corners(each) for each in best_pairs(output, contract)]
        case ("anchors", "app") | ("detections", "artifact"):
            anchors = [_with_corners(each) for each in best_classes(output, contract)]
            chosen = suppress(anchors, rules["iou"])
        case layout, nms:
            raise ValueError(f"cannot decode layout {layout!r} with nms {nms!r}")
    return chosen[: rules["limit"]]


def rows(output: np.ndarray, confidence: float) -> list[Candidate]:
    """Layout "rows": four numbers of the box, score, class, the rest; sorted already, no suppression."""
    return [
        Candidate(row[:4].astype(float), float(row[4]), int(row[5]), row[6:])
        for row in output
        if row[4] > confidence
    ]


def best_classes(output: np.ndarray, contract: dict[str, Any]) -> list[Candidate]:
    """Layout "anchors", nms "app": the best class of every anchor, if above `confidence`; best first."""
    count, confidence = contract["classes"], contract["thresholds"]["confidence"]
    candidates = []
    for column in output.T:
        scores = column[4 : 4 + count]
        index = int(scores.argmax())
        if scores[index] > confidence:
            candidates.append(_candidate(column, index, count))
    return sorted(candidates, key=lambda each: -each.score)


def best_pairs(output: np.ndarray, contract: dict[str, Any]) -> list[Candidate]:
    """Layout "anchors", nms "none".

    The `best` anchors with the highest scores, and of their pairs of an anchor and a class the
    `best` with the highest scores; those above `confidence`. An anchor can give several objects.
    Of fewer anchors than `best`, as many pairs as there are anchors.
    """
    count, best = contract["classes"], min(contract["postprocess"]["best"], output.shape[1])
    columns = sorted(output.T, key=lambda column: -column[4 : 4 + count].max())[:best]
    pairs = [_candidate(column, index, count) for column in columns for index in range(count)]
    pairs = sorted(pairs, key=lambda each: -each.score)[:best]
    return [each for each in pairs if each.score > contract["thresholds"]["confidence"]]


def _candidate(column: np.ndarray, index: int, count: int) -> Candidate:
    return Candidate(column[:4].astype(float), float(column[4 + index]), index, column[4 + count :])


def _with_corners(candidate: Candidate) -> Candidate:
    """Centre x, centre y, width, height become left, top, right, bottom."""
    centre, half = candidate.box[:2], candidate.box[2:] / 2
    corners = np.concatenate([centre - half, centre + half])
    return Candidate(corners, candidate.score, candidate.index, candidate.numbers)


def suppress(candidates: list[Candidate], limit: float) -> list[Candidate]:
    """Keeps a box unless it overlaps a better one of its class, that was kept, by more than `iou`."""
    kept: list[Candidate] = []
    for each in candidates:
        rivals = [other for other in kept if other.index == each.index]
        if all(iou(other.box, each.box) <= limit for other in rivals):
            kept.append(each)
    return kept


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """The area that two boxes share, divided by the area that they cover together."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    together = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared
    return shared / together if together > 0 else 0.0


def describe(found: dict[str, Any]) -> str:
    """What is printed of a box."""
    return "box " + " ".join(f"{value:.1f}" for value in found["box"])


def check(found: Found, bundle: Bundle) -> list[str]:
    """Differences from the golden results."""
    return differences(found, bundle.golden["detections"])
