"""Blocks that halve a map."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Pool


def _mean(to: Builder, block: Block, value: Value) -> str:
    """The mean of every 2 x 2 cells."""
    x = single(value, block)
    return to.add(Pool(name=f"{block.name}.mean", inputs=(x,), kind="average", kernel=(2, 2)))


def _aconv(to: Builder, block: Block, value: Value) -> Value:
    return to.run(block.child("cv1"), _mean(to, block, value))


def _adown(to: Builder, block: Block, value: Value) -> Value:
    """One half by a convolution, the other by pooling."""
    first, second = to.halves(f"{block.name}.halves", _mean(to, block, value))
    pool = Pool(
        name=f"{block.name}.greatest",
        inputs=(second,),
        kind="max",
        kernel=(3, 3),
        stride=(2, 2),
        padding=(1, 1),
    )
    made = to.run(block.child("cv1"), first), to.run(block.child("cv2"), to.add(pool))
    return to.concat(f"{block.name}.join", made)


def _scdown(to: Builder, block: Block, value: Value) -> Value:
    return to.chain([block.child("cv1"), block.child("cv2")], single(value, block))


LOWERINGS = {"AConv": _aconv, "ADown": _adown, "SCDown": _scdown}
