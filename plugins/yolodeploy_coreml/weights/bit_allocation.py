"""How many bits each layer gets: the least noise for a size, or the least size for a noise.

Noise and size of layers add up, so the choice is a knapsack problem. It is solved greedily: starting
with the smallest form of every layer, the next larger one is taken where it removes most noise per byte.
Between two such steps that is optimal (H. Everett, "Generalized Lagrange Multiplier Method", 1963).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Option:
    """One way to store a layer: bits per weight, bytes, and the noise that it adds to the output."""

    bits: int
    size: int
    noise: float


Options = Mapping[str, Sequence[Option]]
Choice = dict[str, Option]


def least_noise(options: Options, size: int) -> Choice:
    """The choice with the least noise of at most `size` bytes; the smallest choice if none fits."""
    chosen = _smallest(options)
    total = size_of(chosen)
    for name, before, after in _steps(options):
        grown = total + after.size - before.size
        if chosen[name] is before and grown <= size:
            chosen[name], total = after, grown
    return chosen


def least_size(options: Options, noise: float) -> Choice:
    """The smallest choice with at most this noise; the one with the least noise if none is as quiet."""
    chosen = _smallest(options)
    taken = []
    for name, before, after in _steps(options):
        if noise_of(chosen) <= noise:
            break
        chosen[name] = after
        taken.append((name, before, after))
    for name, before, after in reversed(taken):  # the last step may make earlier ones unnecessary
        if chosen[name] is after and noise_of({**chosen, name: before}) <= noise:
            chosen[name] = before
    return chosen


def noise_of(choice: Choice) -> float:
    """Noise of all layers together."""
    return sum(option.noise for option in choice.values())


def size_of(choice: Choice) -> int:
    """Bytes of all layers together."""
    return sum(option.size for option in choice.values())


def _smallest(options: Options) -> Choice:
    return {name: _hull(forms)[0] for name, forms in options.items()}


def _steps(options: Options) -> Iterator[tuple[str, Option, Option]]:
    """Steps from one form of a layer to the next larger one, most noise removed per byte first."""
    steps = [
        (name, before, after)
        for name, forms in options.items()
        for before, after in pairwise(_hull(forms))
    ]
    return iter(sorted(steps, key=lambda step: _worth(*step[1:]), reverse=True))


def _worth(before: Option, after: Option) -> float:
    return (before.noise - after.noise) / (after.size - before.size)


def _hull(forms: Sequence[Option]) -> list[Option]:
    """The lower convex hull of the forms in size and noise, from small to large."""
    hull: list[Option] = []
    for form in sorted(forms, key=lambda form: (form.size, form.noise)):
        if hull and (form.size == hull[-1].size or form.noise >= hull[-1].noise):
            continue
        while len(hull) > 1 and _worth(hull[-2], hull[-1]) <= _worth(hull[-1], form):
            hull.pop()
        hull.append(form)
    return hull
