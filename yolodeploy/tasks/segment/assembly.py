"""From coefficients and prototypes to masks of the original image.

A mask is the sum of the prototypes, each times its coefficient (Bolya et al., YOLACT, 2019, https://arxiv.org/abs/1904.02689),
sampled bilinearly at the centre of each pixel of the original image inside the box; a pixel belongs to the object where
the sum is above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.segment.contract import STRIDE
from yolodeploy.tasks.segment.masks import Masks, Packing

if TYPE_CHECKING:
    from yolodeploy.data import Letterboxed

Floats = NDArray[np.float32]

# Products of a matrix multiplication. OpenBLAS spreads larger ones over threads, which wait for each other in a loop: on a
# busy machine that takes ten times as long.
_AT_ONCE = 1 << 18


def assemble(coefficients: Floats, prototypes: Floats, boxes: Floats, box: Letterboxed) -> Masks:
    """The masks of objects from coefficients `[n, 32]`, prototypes `[32, h, w]` and boxes `[n, 4]` in original pixels.

    Pixel x of the original lies at u = ((x + 0.5) * scale_x + left) / 4 - 0.5 of a prototype, likewise y at v; beyond the
    outermost prototype pixels their values go on. It is inside a box if left <= x < right and top <= y < bottom.
    """
    packing = Packing(box.height, box.width)
    columns = np.ascontiguousarray(prototypes.transpose(2, 0, 1))  # masks are packed by columns
    size = max(1, _AT_ONCE // columns[0].size)
    steps = np.array(box.scale) / STRIDE
    first = (0.5 * np.array(box.scale) + (box.left, box.top)) / STRIDE - 0.5  # u, v of pixel 0, 0
    edges = np.ceil(boxes).astype(np.int64)
    corners = first + edges[:, :2] * steps
    for start in range(0, len(boxes), size):
        part = slice(start, start + size)
        sums = np.matmul(coefficients[part], columns).swapaxes(0, 1)
        rows = zip(sums, edges[part].tolist(), corners[part].tolist(), strict=True)
        for plane, (left, top, right, bottom), (u, v) in rows:
            if left < right and top < bottom:
                places = np.array(((steps[1], 0, v), (0, steps[0], u)))
                inside = _sample(plane, places, (bottom - top, right - left)) > 0
            else:
                inside = np.zeros((0, 0), np.bool_)
            packing.add(inside, left, top)
    return packing.masks()


def _sample(plane: Floats, places: NDArray[np.float64], size: tuple[int, int]) -> Floats:
    sampled = cv2.warpAffine(
        plane,
        places,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return sampled.astype(np.float32, copy=False)
