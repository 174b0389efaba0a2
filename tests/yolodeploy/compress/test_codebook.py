"""Codebooks: error close to the optimum, exact where that is possible, the same every time."""

import numpy as np
import pytest

from yolodeploy.compress.codebook import balance, kmeans, nearest, uniform


def optimum(numbers, entries):
    """Least sum of squared errors over all ways to cut sorted numbers into runs."""
    numbers = np.sort(numbers.astype(np.float64))
    n = len(numbers)
    count = np.arange(n + 1)
    total = np.concatenate([[0], np.cumsum(numbers)])
    squares = np.concatenate([[0], np.cumsum(numbers**2)])
    size = count[None] - count[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = squares[None] - squares[:, None] - (total[None] - total[:, None]) ** 2 / size
    cost[size <= 0] = np.inf
    best = cost[0]
    for _ in range(entries - 1):
        best = (best[:, None] + cost).min(0)
    return best[-1]


def error(tensor, codebook):
    return float(np.square(tensor - codebook.dense(), dtype=np.float64).sum())


def weights(kind, size):
    rng = np.random.default_rng(len(kind))
    return getattr(rng, kind)(size=size).astype(np.float32)


@pytest.mark.parametrize(("entries", "ratio"), [(2, 1.01), (4, 1.02), (16, 1.05), (64, 1.3)])
@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_kmeans_is_close_to_the_best_possible(kind, entries, ratio):
    numbers = weights(kind, 1500)
    assert error(numbers, kmeans(numbers, entries)) <= ratio * optimum(numbers, entries)


def test_kmeans_of_8_bits_beats_even_spacing():
    numbers = weights("laplace", (64, 32, 3, 3))
    assert error(numbers, kmeans(numbers, 256)) < 0.3 * error(numbers, uniform(numbers, 256))


@pytest.mark.parametrize("entries", [2, 16, 256])
def test_few_distinct_values_are_kept_exactly(entries):
    numbers = np.resize(np.linspace(-1, 1, entries, dtype=np.float32), (7, entries))
    codebook = kmeans(numbers, entries)
    assert np.array_equal(codebook.dense(), numbers)
    assert codebook.values.shape == (entries,)
    assert np.array_equal(kmeans(np.full((3, 4), 0.5), entries).dense(), np.full((3, 4), 0.5))


def test_every_element_gets_its_nearest_value():
    numbers = weights("normal", (40, 25))
    for codebook in (
        kmeans(numbers, 16),
        uniform(numbers, 16),
        nearest(numbers, np.array([-1.0, 0, 1])),
    ):
        distances = np.abs(numbers[..., None] - codebook.values)
        assert np.array_equal(distances.min(-1), np.abs(numbers - codebook.dense()))
        assert codebook.indices.dtype == np.uint8
        assert codebook.indices.shape == numbers.shape


def test_importance_moves_the_table():
    numbers = weights("normal", (2, 500)) * np.array([[100], [1]], np.float32)
    plain = kmeans(numbers, 16).dense()
    balanced = kmeans(numbers, 16, balance(numbers)).dense()
    assert np.square(numbers - balanced)[1].sum() < 0.5 * np.square(numbers - plain)[1].sum()


def test_balance_ignores_channels_of_zeros():
    numbers = weights("normal", (3, 50))
    numbers[1] = 0
    assert np.isfinite(balance(numbers)).all()
    assert np.isfinite(
        kmeans(np.zeros((2, 9), np.float32), 4, balance(np.zeros((2, 9)))).values
    ).all()
    codebook = kmeans(numbers, 16, balance(numbers))
    assert (
        np.array_equal(codebook.dense()[1], np.zeros(50))
        or np.abs(codebook.dense()[1]).max() < 0.05
    )


def test_same_table_every_time():
    numbers = weights("laplace", 5000)
    first, second = kmeans(numbers, 64), kmeans(numbers.copy(), 64)
    assert first.values.tobytes() == second.values.tobytes()
    assert first.indices.tobytes() == second.indices.tobytes()
