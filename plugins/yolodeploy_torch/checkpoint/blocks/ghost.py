"""Ghost convolutions: half of the channels are made from the other half, cheaply."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single


def _conv(to: Builder, block: Block, value: Value) -> Value:
    half = to.run(block.child("cv1"), value)
    return to.concat(f"{block.name}.join", (half, to.run(block.child("cv2"), half)))


def _bottleneck(to: Builder, block: Block, value: Value) -> Value:
    x = single(value, block)
    y, beside = to.run(block.child("conv"), x), to.run(block.child("shortcut"), x)
    return to.plus(f"{block.name}.sum", y, beside)


LOWERINGS = {"GhostConv": _conv, "GhostBottleneck": _bottleneck}
