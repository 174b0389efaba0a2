"""The indices in the end of a one-to-one head, which chooses its best boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolodeploy.backend import ROWS
from yolodeploy.system import ImageShape

_UINT16 = 0xFFFF


def anchor_count(imgsz: ImageShape, strides: Sequence[int]) -> int:
    """How many anchors a detector with these strides has in an image."""
    return sum((imgsz.height // stride) * (imgsz.width // stride) for stride in strides)


def keep_indices(passes: Any, anchors: int, classes: int) -> None:
    """Keep indices that 16 bits cannot hold in 32 bits.

    From iOS 17 on coremltools 9 types the indices of every top-k uint16, without a look at how many values
    there are to choose from.
    """
    if max(anchors, min(ROWS, anchors) * classes) > _UINT16 + 1:
        passes.remove_passes({"common::add_int16_cast"})
