"""The indices in the end of a one-to-one head, which chooses its best boxes."""

from __future__ import annotations

from typing import Any

from yolodeploy.backend import ROWS

_UINT16 = 0xFFFF


def keep_indices(passes: Any, anchors: int, classes: int) -> None:
    """Keep indices that 16 bits cannot hold in 32 bits.

    From iOS 17 on coremltools 9 types the indices of every top-k uint16, without a look at how many values
    there are to choose from.
    """
    if max(anchors, min(ROWS, anchors) * classes) > _UINT16 + 1:
        passes.remove_passes({"common::add_int16_cast"})
