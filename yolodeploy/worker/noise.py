"""Intervals around what was measured, and on which side of a limit they lie."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.999  # of the sign test; the interval is looked at several times, see timing.ROUNDS
LAUNCH = 1.07  # factor between ratios of the same two files in two processes, see decision 024


@dataclass(frozen=True)
class Ratio:
    """A ratio of two latencies, and the interval that contains it, in whichever process it is measured."""

    value: float
    low: float
    high: float

    def side(self, limit: float) -> int:
        """-1 if the interval lies at or below the limit, 1 if it lies above, 0 if noise could turn it over."""
        return side((self.low, self.high), limit)

    def hopeless(self, limit: float) -> bool:
        """Whether the limit is closer than two processes differ, so that more pairs would not tell."""
        return limit / LAUNCH < self.value < limit * LAUNCH

    def inverse(self) -> Ratio:
        """The ratio of the same two latencies the other way round."""
        return Ratio(round(1 / self.value, 4), round(1 / self.high, 4), round(1 / self.low, 4))


def ratio_of(times: Sequence[float], others: Sequence[float]) -> Ratio:
    """The median ratio of pairs that were measured one after the other.

    The interval is that of the sign test, between two of the sorted ratios: it assumes nothing of the noise but
    that it favours neither side (Conover, Practical Nonparametric Statistics, section 3.2). It needs at least
    eleven pairs to reach its probability; with fewer it spans all of them. It is widened by `LAUNCH`, because
    memory lies elsewhere in every process.
    """
    return _middle([time / other for time, other in zip(times, others)])


def latency_of(times: Sequence[float]) -> Ratio:
    """The median of a model's bursts, in milliseconds, with the interval of the sign test as in `ratio_of`.

    It says how well this machine's speed at the time is known, not how fast it is on a warmer day: nothing takes turns with it.
    """
    return _middle(times)


def _middle(values: Sequence[float]) -> Ratio:
    ordered = sorted(values)
    skipped = _skipped(len(ordered))
    low, high = ordered[skipped] / LAUNCH, ordered[-1 - skipped] * LAUNCH
    return Ratio(round(statistics.median(ordered), 4), round(low, 4), round(high, 4))


def _skipped(count: int) -> int:
    """How many values at either end lie outside the interval of the median of `count` values."""
    outside, allowed = 0, (1 - CONFIDENCE) / 2 * 2**count
    for below in range(count):
        outside += math.comb(count, below)
        if outside > allowed:
            return max(below - 1, 0)
    return 0


def side(values: Sequence[float], limit: float) -> int:
    """-1 if values lie at or below the limit, 1 if they lie above, 0 if they straddle it."""
    return -1 if max(values) <= limit else 1 if min(values) > limit else 0


def images_needed(
    images: int, value: float, interval: tuple[float, float], limit: float
) -> int | None:
    """About how many images would put the interval on one side of the limit; None if hardly any number would.

    The width of an interval shrinks with the square root of the number of images.
    """
    low, high = interval
    reach, distance = (
        (high - value, limit - value) if value <= limit else (value - low, value - limit)
    )
    if distance <= 0.05 * reach:
        return None
    needed = float(images * (reach / distance) ** 2)
    digits: int = max(10 ** (math.floor(math.log10(needed)) - 1), 1)
    return math.ceil(needed / digits - 1e-9) * digits
