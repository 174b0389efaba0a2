"""Which evaluation images a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolodeploy.tasks.pictures.picture import Chosen

MAX_WORST, MAX_SAMPLES = 16, 8


@dataclass(frozen=True)
class Choice:
    """An image by its number in the view, and why it is shown."""

    number: int
    chosen: Chosen


def choose(fidelity: Sequence[float | None]) -> list[Choice]:
    """The images where both models agree least, the worst first, then others that are spread evenly over the view.

    `fidelity` is that of each image in the order of the view. An image in which both agree, or find nothing, is none of
    the worst. The evenly spread images follow from the number of images alone, so that all reports on the same images have
    them in common; one that is among the worst, too, is listed there.
    """
    known = [
        (value, number)
        for number, value in enumerate(fidelity)
        if value is not None and round(value, 4) < 1
    ]
    worst = [number for _, number in sorted(known)[:MAX_WORST]]
    count = min(MAX_SAMPLES, len(fidelity))
    spread = (place * len(fidelity) // count for place in range(count))
    return [
        *(Choice(number, "worst") for number in worst),
        *(Choice(number, "sample") for number in spread if number not in worst),
    ]
