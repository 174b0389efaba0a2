"""The detection head in primitives: the branches of every level, and the decoding of what they give.

A box side is a distance in cells from an anchor: the mean of a distribution over `reg_max` bins (Generalized Focal
Loss, https://arxiv.org/abs/2006.04388), or with one bin the number itself. YOLOv10 and YOLO26 have two sets of
branches: one trained so that many anchors find an object, one so that a single anchor does
(https://arxiv.org/abs/2405.14458), which needs no suppression of duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from yolodeploy.recipe import Head
from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.graph import Branch, Detection, Grid, Unsupported, decoded

KINDS = frozenset({"Detect", "v10Detect"})
_PREFIXES: Mapping[Head, str] = {"one-to-many": "", "one-to-one": "one2one_"}
_Maps = tuple[str, ...]


def detection(
    to: Builder, block: Block, maps: _Maps, names: tuple[str, ...], strides: tuple[int, ...]
) -> Detection:
    """Add a detection head that reads these maps, one per level."""
    if len(strides) != len(maps):
        raise Unsupported(f"its head reads {len(maps)} maps and states {len(strides)} strides")
    found = {head: prefix for head, prefix in _PREFIXES.items() if block.has(f"{prefix}cv2")}
    if not found:
        raise Unsupported(f"{block.what} has no branches")
    with to.mark("decode"):
        to.add(Grid(name=f"{block.name}.grid", inputs=maps, strides=strides))
    single = len(found) == 1
    branches, bins = dict[Head, Branch](), set[int]()
    for head, prefix in found.items():
        mark = None if single else head
        boxes, scores = (
            _branches(to, block.child(f"{prefix}{kind}"), maps, mark) for kind in ("cv2", "cv3")
        )
        sides = to.channels(boxes[0])
        if sides % 4 or any(to.channels(each) != sides for each in boxes):
            raise Unsupported(
                f"{block.what} gives {sides} numbers per box, which is no multiple of 4"
            )
        bins.add(sides // 4)
        with to.mark("decode", mark):
            branches[head] = decoded(
                to, f"{block.name}.{prefix}", boxes, scores, f"{block.name}.grid"
            )
        given = {to.channels(each) for each in scores}
        if given != {len(names)}:
            raise Unsupported(
                f"it gives {max(given)} class scores, but it names {len(names)} classes"
            )
    if len(bins) > 1:
        raise Unsupported(f"{block.what} has heads of {min(bins)} and {max(bins)} bins")
    _check_bins(block, max(bins))
    return Detection(
        names=names, strides=strides, reg_max=bins.pop(), features=maps, branches=branches
    )


def _check_bins(block: Block, bins: int) -> None:
    """The checkpoint has a convolution for the mean of a distribution, whose weights are 0, 1, 2, ..."""
    if block.has("dfl") and block.child("dfl").has("conv"):
        weight = block.child("dfl").child("conv").tensor("weight")
        if weight is None or not np.array_equal(weight.numbers().ravel(), np.arange(bins)):
            raise Unsupported(f"{block.what} has unusual bins")


def _branches(to: Builder, block: Block, maps: _Maps, mark: Head | None) -> _Maps:
    """The results of one branch per level: convolution units, then a plain convolution."""
    made = []
    levels = block.children()
    if len(levels) != len(maps):
        raise Unsupported(f"{block.what} has {len(levels)} branches for {len(maps)} levels")
    for level, read in zip(levels, maps, strict=True):
        *units, last = level.children()
        if last.kind != "Conv2d":
            raise Unsupported(f"{last.what} is not the last convolution of a branch")
        with to.mark("head", mark):
            value = to.chain(units, read)
        with to.mark("head.last", mark):
            made.append(to.convolution(last, value))
    return tuple(made)
