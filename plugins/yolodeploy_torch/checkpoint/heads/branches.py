"""What all heads that find objects share: the branches of every level, and what of them is decoded how.

A box side is a distance in cells from an anchor: the mean of a distribution over `reg_max` bins (Generalized Focal
Loss, https://arxiv.org/abs/2006.04388), or with one bin the number itself. YOLOv10 and YOLO26 have two sets of
branches: one trained so that many anchors find an object, one so that a single anchor does
(https://arxiv.org/abs/2405.14458), which needs no suppression of duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from yolodeploy.compress import Part
from yolodeploy.recipe import Head
from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Stored
from yolodeploy_torch.graph import MAX_COUNT, Branch, Detection, Grid, Unsupported

Maps = tuple[str, ...]
_PREFIXES: Mapping[Head, str] = {"one-to-many": "", "one-to-one": "one2one_"}
_MAX_LEVELS = 8


class Raw(NamedTuple):
    """What one set of branches gives, and what it was made of.

    Its children in the checkpoint bear names that begin with `prefix`, its values those that begin with `name`;
    `mark` is the head that alone needs it, None if there is one head.
    """

    block: Block
    prefix: str
    mark: Head | None
    features: Maps
    boxes: Maps
    scores: Maps
    grid: str

    @property
    def name(self) -> str:
        """The beginning of the names of what is decoded."""
        return f"{self.block.name}.{self.prefix}"


Decode = Callable[[Builder, Raw], Branch]


def detection(
    to: Builder, block: Block, maps: Maps, names: tuple[str, ...], root: Node, decode: Decode
) -> Detection:
    """Add the branches for boxes and scores of all heads that there are, and what `decode` makes of each."""
    strides = strides_of(root, block)
    if len(strides) != len(maps):
        raise Unsupported(f"its head reads {len(maps)} maps and states {len(strides)} strides")
    found = {head: prefix for head, prefix in _PREFIXES.items() if block.has(f"{prefix}cv2")}
    if not found:
        raise Unsupported(f"{block.what} has no branches")
    grid = f"{block.name}.grid"
    with to.mark("decode"):
        to.add(Grid(name=grid, inputs=maps, strides=strides))
    branches, bins = dict[Head, Branch](), set[int]()
    for head, prefix in found.items():
        mark = None if len(found) == 1 else head
        boxes, scores = (
            levels(to, block.child(f"{prefix}{kind}"), maps, mark) for kind in ("cv2", "cv3")
        )
        bins.add(_bins(to, block, boxes))
        branches[head] = decode(to, Raw(block, prefix, mark, maps, boxes, scores, grid))
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


def levels(
    to: Builder,
    block: Block,
    maps: Maps,
    mark: Head | None,
    parts: tuple[Part, Part] = ("head", "head.last"),
    last: Block | None = None,
) -> Maps:
    """The results of one branch per level: convolution units, then a plain convolution.

    That convolution is the last layer of the branch, or one of the list `last`. The units belong to the first of the
    parts, the convolution to the second.
    """
    made = []
    children = block.children()
    ends = last.children() if last else [None] * len(children)
    if not len(children) == len(ends) == len(maps):
        raise Unsupported(f"{block.what} has {len(children)} branches for {len(maps)} levels")
    for level, end, read in zip(children, ends, maps, strict=True):
        *units, final = (*level.children(), end) if end else level.children()
        if final.kind != "Conv2d":
            raise Unsupported(f"{final.what} is not the last convolution of a branch")
        with to.mark(parts[0], mark):
            value = to.chain(units, read)
        with to.mark(parts[1], mark):
            made.append(to.convolution(final, value))
    return tuple(made)


def strides_of(root: Node, head: Block) -> tuple[int, ...]:
    """The strides of the maps that a head reads, as it states them or the whole model does."""
    tensor = head.node.state.get("stride", root.state.get("stride"))
    if not isinstance(tensor, Stored):
        raise Unsupported(f"its {root.kind} has no usable `stride`")
    if not 1 <= tensor.size <= _MAX_LEVELS:
        raise Unsupported(f"it states {tensor.size} strides")
    values = [float(value) for value in tensor.numbers().ravel().tolist()]
    if not all(value.is_integer() and 0 < value <= MAX_COUNT for value in values):
        raise Unsupported(f"it states the strides {values}")
    return tuple(int(value) for value in values)


def _bins(to: Builder, block: Block, boxes: Maps) -> int:
    sides = to.channels(boxes[0])
    if sides % 4 or any(to.channels(each) != sides for each in boxes):
        raise Unsupported(f"{block.what} gives {sides} numbers per box, which is no multiple of 4")
    return sides // 4


def _check_bins(block: Block, bins: int) -> None:
    """The checkpoint has a convolution for the mean of a distribution, whose weights are 0, 1, 2, ..."""
    if block.has("dfl") and block.child("dfl").has("conv"):
        weight = block.child("dfl").child("conv").tensor("weight")
        if weight is None or not np.array_equal(weight.numbers().ravel(), np.arange(bins)):
            raise Unsupported(f"{block.what} has unusual bins")
