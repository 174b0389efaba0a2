"""What a detection head decodes to: boxes from distances, and scores, in primitives.

A box side is a distance in cells from an anchor: the mean of a distribution over `reg_max` bins (Generalized Focal
Loss, https://arxiv.org/abs/2006.04388), or with one bin the number itself.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from yolodeploy_torch.graph.builder import NodeBuilder
from yolodeploy_torch.graph.heads import Branch
from yolodeploy_torch.graph.operations import (
    Arithmetic,
    Concat,
    Function,
    Reshape,
    Softmax,
    Split,
    Transpose,
)
from yolodeploy_torch.graph.weighted import Conv

_Maps = tuple[str, ...]
T = TypeVar("T")


def decoded(to: NodeBuilder[T], prefix: str, boxes: _Maps, scores: _Maps, grid: str) -> Branch:
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


def _flat(to: NodeBuilder[T], name: str, maps: _Maps) -> str:
    """Join the cells of all levels: [N, C, A]."""
    flat = [
        to.add(Reshape(name=f"{name}.{level}", inputs=(value,), shape=(0, 0, -1)))
        for level, value in enumerate(maps)
    ]
    return to.add(Concat(name=name, inputs=tuple(flat), axis=2))


def _distances(to: NodeBuilder[T], prefix: str, boxes: str, bins: int) -> str:
    """The distances [N, 4, A] to left, top, right and bottom, in cells."""
    if bins == 1:
        return boxes
    parted = Reshape(name=f"{prefix}bins", inputs=(boxes,), shape=(0, 4, bins, -1))
    turned = Transpose(name=f"{prefix}turned", inputs=(to.add(parted),), order=(0, 2, 1, 3))
    shares = Softmax(name=f"{prefix}shares", inputs=(to.add(turned),), axis=1)
    name = f"{prefix}dfl.conv"
    mean = Conv(name=name, inputs=(to.add(shares),), channels=(bins, 1), kernel=(1, 1), part="dfl")
    weight = np.arange(bins, dtype=np.float32).reshape(1, bins, 1, 1)
    expected = to.add(mean, {"weight": to.tensor(weight)})
    return to.add(Reshape(name=f"{prefix}distances", inputs=(expected,), shape=(0, 4, -1)))


def _combine(to: NodeBuilder[T], name: str, kind: str, first: str, second: str) -> str:
    return to.add(
        Arithmetic.model_validate({"name": name, "inputs": (first, second), "kind": kind})
    )
