"""The layers that cost more than everything behind them."""

from __future__ import annotations

import pytest

from yolodeploy.backend import Trial
from yolodeploy.compress import Cost, dominant


@pytest.mark.parametrize(
    ("noises", "found"),
    [
        ([1.0, 1.0], []),
        ([90.0, 1.0, 2.0], [0]),
        ([1.0, 200.0, 90.0, 2.0], [1, 2]),
        ([10_000.0, 5_000.0, 2_000.0, 1_000.0], [0, 1, 2]),
    ],
)
def test_of_forty_layers(noises: list[float], found: list[int]) -> None:
    noises += [1.0] * (40 - len(noises))
    costs = [Cost(Trial(str(i), "neck", "int8", 1), noise) for i, noise in enumerate(noises)]
    assert dominant(costs) == {str(i) for i in found}


def test_of_few_layers_none_is_spared() -> None:
    assert not dominant([Cost(Trial("only", "neck", "int8", 1), 1.0)])
