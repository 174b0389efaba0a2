"""The best detections of a head that gives no duplicates."""

from __future__ import annotations

import torch
from torch import Tensor


def best_rows(corners: Tensor, scores: Tensor, k: int) -> Tensor:
    """The k best pairs of an anchor and a class: [N, k, 6], x1, y1, x2, y2, score, class, the best first.

    `corners` are [N, 4, A] in px, `scores` [N, nc, A]. First the k anchors with the highest score of any class are
    taken, then the k best pairs among them; an anchor may be in several.
    """
    batch, classes, anchors = scores.shape
    count = min(k, anchors)
    best = scores.amax(1).topk(count, 1).indices
    rows = corners.transpose(1, 2).gather(1, best[..., None].expand(-1, -1, 4))
    of_rows = scores.transpose(1, 2).gather(1, best[..., None].expand(-1, -1, classes))
    score, index = of_rows.reshape(batch, -1).topk(count, 1)
    anchor, kind = index // classes, index % classes
    chosen = rows.gather(1, anchor[..., None].expand(-1, -1, 4))
    return torch.cat((chosen, score[..., None], kind[..., None].to(corners.dtype)), 2)
