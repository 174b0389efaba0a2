"""Convolution units, and what joins and moves maps."""

from __future__ import annotations

from typing import Any

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import ConvTranspose, Pool, Resize, Unsupported


def _unit(to: Builder, block: Block, value: Value) -> Value:
    return to.unit(block, single(value, block))


def _plain(to: Builder, block: Block, value: Value) -> Value:
    return to.convolution(block, single(value, block))


def _concat(to: Builder, block: Block, value: Value) -> Value:
    values = value if isinstance(value, tuple) else (value,)
    return to.concat(block.name, values, block.setting("d", int, 1))


def _upsample(to: Builder, block: Block, value: Value) -> Value:
    scale: Any = block.node.state.get("scale_factor")
    mode = block.node.state.get("mode")
    if type(scale) not in (int, float) or scale not in range(1, 65) or mode != "nearest":
        raise Unsupported(f"{block.what} does not enlarge by whole cells")
    return to.add(Resize(name=block.name, inputs=(single(value, block),), scale=int(scale)))


def _identity(_to: Builder, block: Block, value: Value) -> Value:
    return single(value, block)


def _sequence(to: Builder, block: Block, value: Value) -> Value:
    return to.chain(block.children(), single(value, block))


def max_pool(to: Builder, block: Block, value: Value, name: str = "") -> str:
    """Add a `MaxPool2d`, under its own name or another."""
    if block.pair("dilation") != (1, 1) or block.setting("ceil_mode", bool, default=False):
        raise Unsupported(f"{block.what} has unusual windows")
    return to.add(
        Pool(
            name=name or block.name,
            inputs=(single(value, block),),
            kind="max",
            kernel=block.pair("kernel_size"),
            stride=block.pair("stride"),
            padding=block.pair("padding"),
        )
    )


def _transposed(to: Builder, block: Block, value: Value) -> Value:
    weight, bias = block.weight("weight", 4), block.tensor("bias")
    odd = block.pair("dilation"), block.pair("output_padding"), block.setting("groups", int)
    if odd != ((1, 1), (0, 0), 1):
        raise Unsupported(f"{block.what} has an unusual form")
    node = ConvTranspose(
        name=block.name,
        inputs=(single(value, block),),
        channels=(weight.shape[0], weight.shape[1]),
        kernel=(weight.shape[2], weight.shape[3]),
        stride=block.pair("stride"),
        padding=block.pair("padding"),
        bias=bias is not None,
    )
    return to.add(node, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})


LOWERINGS = {
    "Conv": _unit,
    "DWConv": _unit,
    "Conv2d": _plain,
    "ConvTranspose2d": _transposed,
    "Concat": _concat,
    "Upsample": _upsample,
    "Identity": _identity,
    "Silence": _identity,  # what Ultralytics 8.1 called it
    "Sequential": _sequence,
    "MaxPool2d": max_pool,
}
