"""Blocks of parallel convolutions that add up to one (re-parameterisation, https://arxiv.org/abs/2101.03697)."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Unsupported


def _rep_conv(to: Builder, block: Block, value: Value) -> Value:
    """3x3 and 1x1; a fused one has their sum in a single convolution."""
    if block.has("conv"):
        return to.unit(block, single(value, block))
    return _sum(to, block, single(value, block), ("conv1", "conv2"))


def _rep_vgg_dw(to: Builder, block: Block, value: Value) -> Value:
    """Depthwise 7x7 and 3x3; a fused one has their sum in a single convolution."""
    if block.has("conv1"):
        return _sum(to, block, single(value, block), ("conv", "conv1"))
    if block.child("conv").kind == "Conv2d":
        return to.unit(block, single(value, block))
    return to.activated(block, to.run(block.child("conv"), value))


def _sum(to: Builder, block: Block, value: str, names: tuple[str, str]) -> str:
    if block.has("bn"):
        raise Unsupported(f"{block.what} has a branch that only normalises")
    first, second = (to.run(block.child(name), value) for name in names)
    return to.activated(block, to.plus(f"{block.name}.sum", first, second))


LOWERINGS = {"RepConv": _rep_conv, "RepVGGDW": _rep_vgg_dw}
