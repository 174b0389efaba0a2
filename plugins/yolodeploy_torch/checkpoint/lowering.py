"""Builds the graph of a model: what the lowering of a block calls to add primitives.

A lowering is a function `(to, block, value) -> value` that adds the primitives of one class of block. The value is
the name of what the block reads or gives, or a tuple of names. Each file in `blocks` lists its lowerings by the name
of the class, and is found by being there.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Literal

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.weights import Floats, Weight
from yolodeploy_torch.graph import (
    Activation,
    BatchNorm,
    Conv,
    NodeBuilder,
    Unsupported,
)

Value = str | tuple[str, ...]
Lowering = Callable[["Builder", Block, Value], Value]
_ACTIVATIONS: Mapping[str, Literal["silu", "relu", "leaky_relu", "hardswish"]] = {
    "SiLU": "silu",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "Hardswish": "hardswish",
}


class Builder(NodeBuilder[Weight]):
    """Adds the primitives of blocks."""

    def tensor(self, numbers: Floats) -> Weight:
        """Numbers that no file holds."""
        return Weight(numbers.shape, numbers.copy)

    def lower(self, block: Block, value: Value) -> Value:
        """Add a block of any known class; raises `Unsupported` for another."""
        lowering = lowerings().get(block.kind)
        if lowering is None:
            raise Unsupported(f"{block.what} is of a class that is not known")
        return lowering(self, block, value)

    def run(self, block: Block, value: Value) -> str:
        """Add a block that gives one value."""
        return single(self.lower(block, value), block)

    def chain(self, blocks: list[Block], value: str) -> str:
        """Add blocks, each of which reads what the one before it gives."""
        for block in blocks:
            value = self.run(block, value)
        return value

    def convolution(self, block: Block, value: str, name: str = "") -> str:
        """Add a plain convolution, with its bias if it has one."""
        node, weights = conv_of(block, value, name or block.name)
        return self.add(node, weights)

    def unit(self, block: Block, value: str) -> str:
        """Add a convolution, its normalisation and its activation.

        One whose normalisation was folded into it gets one that changes nothing, so that all units are alike.
        """
        conv, norm = block.child("conv"), f"{block.name}.bn"
        node, weights = conv_of(conv, value, conv.name)
        bias = weights.pop("bias", None)
        made = self.add(node.model_copy(update={"bias": False}), weights)
        if block.has("bn") and block.child("bn").kind == "BatchNorm2d":
            made = self.normalised(block.child("bn"), made, bias)
        else:
            made = self.unnormalised(norm, made, bias)
        return self.activated(block, made)

    def normalised(self, block: Block, value: str, bias: Weight | None) -> str:
        """Add a batch normalisation, behind a convolution with this bias."""
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = {name: block.weight(name, 1) for name in names}
        if bias is not None:
            tensors["running_mean"] = tensors["running_mean"].minus(bias)
        eps = block.setting("eps", float)
        node = BatchNorm(
            name=block.name, inputs=(value,), channels=tensors["weight"].shape[0], eps=eps
        )
        return self.add(node, tensors)

    def activated(self, block: Block, value: str) -> str:
        """Add the activation of a block, unless it has none."""
        act = block.child("act")
        if act.kind == "Identity":
            return value
        kind = _ACTIVATIONS.get(act.kind)
        if kind is None:
            raise Unsupported(f"it uses the activation {act.kind}, which is not known")
        slope = act.setting("negative_slope", float) if kind == "leaky_relu" else 0.0
        return self.add(Activation(name=act.name, inputs=(value,), kind=kind, slope=slope))


def conv_of(block: Block, value: str, name: str) -> tuple[Conv, dict[str, Weight]]:
    """The node of a `Conv2d`, and its tensors."""
    weight, bias = block.weight("weight", 4), block.tensor("bias")
    if block.node.state.get("padding_mode", "zeros") != "zeros":
        raise Unsupported(f"{block.what} has an unusual padding")
    groups = block.setting("groups", int)
    outputs, inputs, height, width = weight.shape
    node = Conv(
        name=name,
        inputs=(value,),
        channels=(inputs * groups, outputs),
        kernel=(height, width),
        stride=block.pair("stride"),
        padding=block.pair("padding"),
        dilation=block.pair("dilation"),
        groups=groups,
        bias=bias is not None,
    )
    return node, {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def single(value: Value, block: Block) -> str:
    """The one value; raises `Unsupported` if there are several."""
    if isinstance(value, tuple):
        raise Unsupported(f"{block.what} reads or gives {len(value)} maps, and one is allowed")
    return value


@functools.cache
def lowerings() -> Mapping[str, Lowering]:
    """Every lowering by the name of its class, from the files in `blocks`."""
    package = importlib.import_module("yolodeploy_torch.checkpoint.blocks")
    found: dict[str, Lowering] = {}
    for file in pkgutil.iter_modules(package.__path__):
        found |= importlib.import_module(f"{package.__name__}.{file.name}").LOWERINGS
    return found
