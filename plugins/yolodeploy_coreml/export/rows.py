"""The end of a one-to-one head: the best boxes, one in each row, which need no suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yolodeploy.backend import ROWS
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.top_k import best_rows

_UINT16 = 0xFFFF


def anchor_count(imgsz: ImageShape, strides: Sequence[int]) -> int:
    """How many anchors a detector with these strides has in an image."""
    return sum((imgsz.height // stride) * (imgsz.width // stride) for stride in strides)


class Rows(nn.Module):
    """A detector that returns its best boxes.

    Maps [1, channels, height, width] in 0..1 to [1, k, 6], k being the anchors, but at most `ROWS`: left,
    top, right, bottom in pixels, score, class index; sorted by score.
    """

    def __init__(self, detector: nn.Module, anchors: int) -> None:
        super().__init__()
        self.detector = detector
        self.count = min(ROWS, anchors)

    def forward(self, images: Tensor) -> Tensor:
        """Run the detector and choose."""
        raw = self.detector(images)
        centre, half, scores = raw[:, :2], raw[:, 2:4] / 2, raw[:, 4:]
        corners = torch.cat((centre - half, centre + half), 1)
        return best_rows(corners, scores, self.count)


def keep_indices(passes: Any, anchors: int, classes: int) -> None:
    """Keep indices that 16 bits cannot hold in 32 bits.

    From iOS 17 on coremltools 9 types the indices of every top-k uint16, without a look at how many values
    there are to choose from.
    """
    if max(anchors, min(ROWS, anchors) * classes) > _UINT16 + 1:
        passes.remove_passes({"common::add_int16_cast"})
