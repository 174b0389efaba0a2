"""How the outputs of a file are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from yolodeploy.recipe import Layout
from yolodeploy_onnx.interface.purpose import Task


@dataclass(frozen=True)
class Form:
    """How outputs are to be read.

    `values` hold them: one boxes and scores, or two. `last`, for each: the channels are the last axis, not the
    second. `objectness`: a score that there is anything comes before those of the classes. `corners`: boxes are x1, y1,
    x2, y2, not centre and size. `unit` is that of the boxes: "cells" are offsets in a cell and the logarithm of sizes.
    `logits`: a sigmoid is still to be applied, of a classifier a softmax. `extras` is how many numbers the task has behind
    the scores, and `prototypes` the value with those of masks.
    """

    values: tuple[str, ...]
    layout: Layout
    last: tuple[bool, ...]
    objectness: bool = False
    corners: bool = False
    unit: Literal["pixels", "fractions", "cells"] = "pixels"
    logits: bool = False
    task: Task = "detect"
    extras: int = 0
    prototypes: str | None = None

    @property
    def common(self) -> bool:
        """Whether the numbers are those of the common layout, but for the order of axes."""
        return self.unit == "pixels" and not (self.objectness or self.corners or self.logits)
