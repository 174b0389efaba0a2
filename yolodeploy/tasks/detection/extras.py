"""Outputs of a detector with extra numbers for each object, such as keypoints: the parts of it, and how far two differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.detection.noise import ANCHORS
from yolodeploy.tasks.detection.rows import all_row_differences, best_rows, pair_rows

if TYPE_CHECKING:
    from yolodeploy.backend import Layout

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]


def main_part(output: Floats, layout: Layout, extras: int) -> Floats:
    """What a detector gives: anchors `[4 + classes, anchors]` or rows `[k, 6]`."""
    return output[:, :6] if layout == "rows" else output[: len(output) - extras]


def part_differences(
    source: Floats, artifact: Floats, layout: Layout, extras: int
) -> tuple[Floats, Floats, Floats]:
    """Absolute differences of boxes in pixels, of scores and of extras: of anchors, or of the rows that are pairs.

    `source` is anchors `[4 + classes + extras, anchors]` in either layout, `artifact` those or rows
    `[k, 6 + extras]`. The extras are `[extras, anchors]` or `[pairs, extras]`.
    """
    if layout == "rows":
        return all_row_differences(best_rows(source, extras=extras), artifact)
    difference, end = abs(artifact - source), len(source) - extras
    return difference[:4], difference[4:end], difference[end:]


@dataclass(frozen=True)
class BestExtras:
    """The extras `[n, extras]` of the best objects in two outputs; their scores and areas (at least one square pixel) are of the first."""

    scores: Floats64
    areas: Floats64
    exact: Floats64
    close: Floats64


def best_extras(exact: Floats, close: Floats, layout: Layout, extras: int) -> BestExtras:
    """Those of the best anchors of an image, or of the best rows that are pairs; what detects nothing is arbitrary."""
    if layout == "rows":
        paired = pair_rows(exact, close)
        kept = paired.first < ANCHORS
        ours, theirs = exact[paired.first[kept]], close[paired.second[kept]]
        scores, sides = ours[:, 4], ours[:, 2:4] - ours[:, :2]
        first, second = ours[:, 6:], theirs[:, 6:]
    else:
        end = len(exact) - extras
        every = exact[4:end].max(0)
        best = np.argsort(-every, kind="stable")[:ANCHORS]
        scores, sides = every[best], exact[2:4, best].T
        first, second = exact[end:, best].T, close[end:, best].T
    areas = sides.astype(np.float64).prod(1).clip(1)
    return BestExtras(
        scores.astype(np.float64), areas, first.astype(np.float64), second.astype(np.float64)
    )
