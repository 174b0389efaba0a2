"""How much noise compression adds to the outputs of a segment model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.tasks.detection import TINY, Noise, best_extras, main_part
from yolodeploy.tasks.segment.contract import COEFFICIENTS

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs


def segment_noise(
    reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
) -> float:
    """Relative noise power: that of a detector's scores and boxes, plus that of the coefficients and of the prototypes.

    Coefficients count by the score of their object, over the best of each image, because those of anchors that detect
    nothing are arbitrary.
    """
    main = Noise()
    noise, power = np.zeros(2), np.zeros(2)  # of coefficients and prototypes
    for exact, close in zip(reference, compressed, strict=True):
        one, two = exact[OUTPUT], close[OUTPUT]
        main.add(main_part(one, layout, COEFFICIENTS), main_part(two, layout, COEFFICIENTS), layout)
        best = best_extras(one, two, layout, COEFFICIENTS)
        maps = exact[PROTOTYPES].astype(np.float64)
        spread = ((best.close - best.exact) ** 2).sum(1), (best.exact**2).sum(1)
        noise += (best.scores @ spread[0], ((close[PROTOTYPES] - maps) ** 2).sum())
        power += (best.scores @ spread[1], (maps**2).sum())
    return main.total() + float((noise / power.clip(TINY)).sum())
