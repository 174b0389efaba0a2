"""The Pareto front: of several artifacts those that no other beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float | None]


def pareto_front(points: Sequence[Point], least: Sequence[bool]) -> list[int]:
    """The indices of the points that no other point dominates, in their order.

    `least` says for each coordinate whether less is better. One point dominates another if it is at least as good in every
    coordinate and better in one; equal points do not dominate each other. A coordinate that is None in any point was not
    measured everywhere and is left out for all, so that the order stays transitive.
    """
    used = [index for index in range(len(least)) if all(p[index] is not None for p in points)]
    signed = [tuple(_signed(point[index], least[index]) for index in used) for point in points]
    return [
        number for number, one in enumerate(signed) if not any(_dominates(o, one) for o in signed)
    ]


def _signed(value: float | None, least: bool) -> float:
    number = 0.0 if value is None else value
    return number if least else -number


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
