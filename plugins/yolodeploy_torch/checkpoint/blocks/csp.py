"""Bottlenecks, and the cross-stage blocks that run them on a part of the channels."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single


def bottleneck(to: Builder, block: Block, value: Value) -> Value:
    """Two units, and their input added if `add`."""
    x = single(value, block)
    y = to.chain([block.child("cv1"), block.child("cv2")], x)
    return to.plus(f"{block.name}.sum", x, y) if block.setting("add", bool) else y


def c3(to: Builder, block: Block, value: Value) -> Value:
    """A chain of blocks beside a unit that bypasses it, joined."""
    x = single(value, block)
    y = to.run(block.child("m"), to.run(block.child("cv1"), x))
    joined = to.concat(f"{block.name}.join", (y, to.run(block.child("cv2"), x)))
    return to.run(block.child("cv3"), joined)


def c2(to: Builder, block: Block, value: Value) -> Value:
    """A chain of blocks on the first half of the channels."""
    entry = to.run(block.child("cv1"), value)
    first, second = to.halves(f"{block.name}.halves", entry)
    joined = to.concat(f"{block.name}.join", (to.run(block.child("m"), first), second))
    return to.run(block.child("cv2"), joined)


def c2f(to: Builder, block: Block, value: Value) -> Value:
    """A chain of blocks from the second half on; everything on the way is joined."""
    made = list(to.halves(f"{block.name}.halves", to.run(block.child("cv1"), value)))
    for inner in block.child("m").children():
        made.append(to.run(inner, made[-1]))
    return to.run(block.child("cv2"), to.concat(f"{block.name}.join", made))


LOWERINGS = {
    "Bottleneck": bottleneck,
    "RepBottleneck": bottleneck,
    "C3": c3,
    "C3k": c3,
    "C3Ghost": c3,
    "RepCSP": c3,
    "C2": c2,
    "C2f": c2f,
    "C3k2": c2f,
    "C2fCIB": c2f,
}
