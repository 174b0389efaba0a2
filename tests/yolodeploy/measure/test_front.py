"""The Pareto front against its definition."""

from __future__ import annotations

import random

from yolodeploy.measure import pareto_front


def test_no_point_of_the_front_is_beaten_and_every_other_is() -> None:
    chosen = random.Random(7)
    points = [(chosen.randrange(6), chosen.randrange(6), chosen.randrange(6)) for _ in range(60)]
    least = (True, False, True)
    front = pareto_front(points, least)

    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        gains = [
            (b - a) if small else (a - b) for a, b, small in zip(one, other, least, strict=True)
        ]
        return min(gains) >= 0 and max(gains) > 0

    for index, point in enumerate(points):
        assert (index in front) != any(beats(other, point) for other in points)


def test_equal_points_share_the_front() -> None:
    assert pareto_front([(1, 2), (1, 2), (2, 2)], (True, True)) == [0, 1]


def test_what_was_not_measured_everywhere_decides_nowhere() -> None:
    assert pareto_front([(1, 5, 0.1), (2, 5, None), (1, 4, 9.0)], (True, True, True)) == [2]
    assert pareto_front([], (True,)) == []
