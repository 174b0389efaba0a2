"""The heads of the tasks, in primitives, by the name of their class.

A file lists its heads in `HEADS`. What each computes was found by running it and watching its results, see
docs/decisions/004-no-ultralytics-at-run-time.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads import classify, detect, obb, pose, segment
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Classification, Detection

# Adds a head that reads these maps; the last two are its classes and the whole model.
Lowering = Callable[
    [Builder, Block, tuple[str, ...], tuple[str, ...], Node], Detection | Classification
]
HEADS: Mapping[str, Lowering] = {
    **detect.HEADS,
    **segment.HEADS,
    **pose.HEADS,
    **obb.HEADS,
    **classify.HEADS,
}
CLASSIFIERS = frozenset(classify.HEADS)
