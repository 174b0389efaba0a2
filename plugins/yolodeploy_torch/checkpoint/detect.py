"""The detection head in primitives: the branches of every level, and the decoding of what they give.

A box side is a distance in cells from an anchor: the mean of a distribution over `reg_max` bins (Generalized Focal
Loss, https://arxiv.org/abs/2006.04388), or with one bin the number itself. YOLOv10 and YOLO26 have two sets of
branches: one trained so that many anchors find an object, one so that a single anchor does
(https://arxiv.org/abs/2405.14458), which needs no suppression of duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from yolodeploy.recipe import Head
from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.graph import (
    Arithmetic,
    Branch,
    Concat,
    Conv,
    Detection,
    Function,
    Grid,
    Reshape,
    Softmax,
    Split,
    Transpose,
    Unsupported,
)

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
            branches[head] = _decoded(
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
        if weight is None or not torch.equal(
            weight.flatten(), torch.arange(bins, dtype=torch.float32)
        ):
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


def _decoded(to: Builder, prefix: str, boxes: _Maps, scores: _Maps, grid: str) -> Branch:
    """Turn the maps of one head into corners and scores, and both into its output."""
    sides = _distances(to, prefix, _flat(to, f"{prefix}boxes", boxes), to.channels(boxes[0]) // 4)
    near, far = f"{prefix}sides.0", f"{prefix}sides.1"
    to.add(Split(name=f"{prefix}sides", inputs=(sides,), sizes=(2, 2)))
    first = _combine(to, f"{prefix}first", "sub", f"{grid}.points", near)
    second = _combine(to, f"{prefix}second", "add", f"{grid}.points", far)
    steps = f"{grid}.steps"
    both = to.concat(f"{prefix}cells", (first, second))
    corners = _combine(to, f"{prefix}corners", "mul", both, steps)
    total = _combine(to, f"{prefix}total", "add", first, second)
    half = Arithmetic(name=f"{prefix}centre", inputs=(total,), kind="div", number=2.0)
    size = _combine(to, f"{prefix}size", "sub", second, first)
    centred = to.concat(f"{prefix}centred", (to.add(half), size))
    found = _combine(to, f"{prefix}found", "mul", centred, steps)
    logits = _flat(to, f"{prefix}scores", scores)
    node = Function(name=f"{prefix}probabilities", inputs=(logits,), kind="sigmoid")
    probabilities = to.add(node)
    output = to.concat(f"{prefix}output", (found, probabilities))
    return Branch(
        boxes=boxes,
        scores=scores,
        corners=corners,
        probabilities=probabilities,
        output=output,
    )


def _flat(to: Builder, name: str, maps: _Maps) -> str:
    """Join the cells of all levels: [N, C, A]."""
    flat = [
        to.add(Reshape(name=f"{name}.{level}", inputs=(value,), shape=(0, 0, -1)))
        for level, value in enumerate(maps)
    ]
    return to.add(Concat(name=name, inputs=tuple(flat), axis=2))


def _distances(to: Builder, prefix: str, boxes: str, bins: int) -> str:
    """The distances [N, 4, A] to left, top, right and bottom, in cells."""
    if bins == 1:
        return boxes
    parted = Reshape(name=f"{prefix}bins", inputs=(boxes,), shape=(0, 4, bins, -1))
    turned = Transpose(name=f"{prefix}turned", inputs=(to.add(parted),), order=(0, 2, 1, 3))
    shares = Softmax(name=f"{prefix}shares", inputs=(to.add(turned),), axis=1)
    name = f"{prefix}dfl.conv"
    mean = Conv(name=name, inputs=(to.add(shares),), channels=(bins, 1), kernel=(1, 1), part="dfl")
    weight = torch.arange(bins, dtype=torch.float32).reshape(1, bins, 1, 1)
    expected = to.add(mean, {"weight": weight})
    return to.add(Reshape(name=f"{prefix}distances", inputs=(expected,), shape=(0, 4, -1)))


def _combine(to: Builder, name: str, kind: str, first: str, second: str) -> str:
    return to.add(
        Arithmetic.model_validate({"name": name, "inputs": (first, second), "kind": kind})
    )
