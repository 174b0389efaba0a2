"""How much noise compression adds to the output of a pose model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.detection import TINY, Noise, best_extras, main_part

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs


def pose_noise(
    reference: Iterable[Outputs],
    compressed: Iterable[Outputs],
    layout: Layout,
    shape: tuple[int, int],
) -> float:
    """Relative noise power: that of a detector's scores and boxes, plus that of keypoints and of visibilities.

    As boxes do, keypoints count by their squared shift over the area of the box, averaged by score over the best objects
    of each image; visibilities by their squared differences over their squares.
    """
    main, extras = Noise(), shape[0] * shape[1]
    shift = weight = noise = power = 0.0
    for exact, close in zip(reference, compressed, strict=True):
        one, two = exact[OUTPUT], close[OUTPUT]
        main.add(main_part(one, layout, extras), main_part(two, layout, extras), layout)
        best = best_extras(one, two, layout, extras)
        points = best.exact.reshape(-1, *shape)
        squares = (best.close.reshape(-1, *shape) - points) ** 2
        shift += float(best.scores @ (squares[..., :2].mean((1, 2)) / best.areas))
        weight += float(best.scores.sum())
        noise += float(best.scores @ squares[..., 2:].sum((1, 2)))
        power += float(best.scores @ (points[..., 2:] ** 2).sum((1, 2)))
    return main.total() + shift / max(weight, TINY) + noise / max(power, TINY)
