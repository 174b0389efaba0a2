"""The end of a detector that needs no non-maximum suppression: the best pairs of a box and a class.

Written so that every converter keeps the indices whole numbers: half precision counts no further than
2048. `//` and `%` stay in integers in coremltools and OpenVINO, while `torch.div` becomes a division
of floats; and whatever a converter makes of the quotient, it is below k. Boxes are transposed before they
are gathered: OpenVINO 2026.4 drops a slice that stands right in front of a gather.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_rows(corners: Tensor, scores: Tensor, k: int, extras: Tensor | None = None) -> Tensor:
    """The k best (box, class) pairs as rows `[N, k, 6 + E]`: x1, y1, x2, y2, score, class as a float, extras.

    `corners` is `[N, 4, A]`, `scores` `[N, classes, A]`, `extras` `[N, E, A]`; of less than k anchors, there are A rows. They are
    sorted by score; a box can stand in several rows, with different classes. The best pairs are among those
    of the k boxes with the best scores, so only these are sorted.
    """
    classes, k = scores.shape[1], min(k, scores.shape[2])
    anchors = scores.amax(1).topk(k)[1]
    shared = anchors[..., None]
    pairs = scores.transpose(1, 2).gather(1, shared.expand(-1, -1, classes)).flatten(1)
    best, pair = pairs.topk(k)
    chosen = anchors.gather(1, (pair // classes).long())
    boxes = corners.transpose(1, 2).gather(1, chosen[..., None].expand(-1, -1, 4))
    kinds = (pair % classes).to(scores.dtype)
    rows = [boxes, best[..., None], kinds[..., None]]
    if extras is not None:
        wanted = chosen[..., None].expand(-1, -1, extras.shape[1])
        rows.append(extras.transpose(1, 2).gather(1, wanted))
    return torch.cat(rows, 2)
