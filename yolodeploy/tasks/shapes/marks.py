"""Which objects of one image source and artifact do not share: lost, added, or of another class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.matching import THRESHOLDS
from yolodeploy.tasks.shapes.shape import Mark

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Marks:
    """The mark of each object that the source found, and of each that the artifact found; None where both agree."""

    source: tuple[Mark | None, ...]
    artifact: tuple[Mark | None, ...]


def marks_of(
    source: NDArray[np.integer],
    artifact: NDArray[np.integer],
    similarity: NDArray[np.floating],
) -> Marks:
    """Marks by the classes of what both found, `[n]` and `[m]`, and how similar each pair is, `[n, m]`.

    Pairs of one class go first, the most similar first; each object has one partner, and a pair below the least of
    `THRESHOLDS` is none.
    """
    mine: list[Mark | None] = ["lost"] * len(source)
    ours: list[Mark | None] = ["added"] * len(artifact)
    same = source[:, None] == artifact
    rows, columns = np.nonzero(similarity >= THRESHOLDS[0])
    order = np.lexsort((columns, rows, -similarity[rows, columns], ~same[rows, columns]))
    free: tuple[Flags, Flags] = np.ones(len(source), np.bool_), np.ones(len(artifact), np.bool_)
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free[0][row] and free[1][column]:
            free[0][row] = free[1][column] = False
            mine[row] = ours[column] = None if same[row, column] else "changed"
    return Marks(tuple(mine), tuple(ours))
