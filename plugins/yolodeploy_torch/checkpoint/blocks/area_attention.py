"""Attention within areas of a map: bands of its cells, row after row (YOLO12)."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.blocks.attention import attend
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Arithmetic, Constant, Reshape, Split, Transpose, Unsupported


def _aattn(to: Builder, block: Block, value: Value) -> Value:
    """Each area is attended to by itself, as if it were a head: [N, heads * areas, channels, cells of an area]."""
    heads, areas, size = (block.setting(key, int) for key in ("num_heads", "area", "head_dim"))
    made, count = to.run(block.child("qkv"), value), heads * areas
    bands = _reshape(to, block, "bands", made, (0, heads, 3 * size, areas, -1))
    turned = Transpose(name=f"{block.name}.areas", inputs=(bands,), order=(0, 1, 3, 2, 4))
    flat = _reshape(to, block, "heads", to.add(turned), (0, count, 3 * size, -1))
    pieces = Split(name=f"{block.name}.pieces", inputs=(flat,), axis=2, sizes=(size,) * 3)
    to.add(pieces)
    query, keys, values = pieces.outputs
    attended = attend(to, block, query, keys, values, size)
    here = []
    for name, each in (("attended", attended), ("values", values)):
        parted = _reshape(to, block, f"{name}_areas", each, (0, heads, areas, size, -1))
        order = Transpose(
            name=f"{block.name}.{name}_order", inputs=(parted,), order=(0, 1, 3, 2, 4)
        )
        node = Reshape(
            name=f"{block.name}.{name}",
            inputs=(to.add(order), made),
            shape=(0, heads * size, "height", "width"),
        )
        here.append(to.add(node))
    total = to.plus(f"{block.name}.sum", here[0], to.run(block.child("pe"), here[1]))
    return to.run(block.child("proj"), total)


def _reshape(to: Builder, block: Block, name: str, value: str, shape: tuple[int, ...]) -> str:
    return to.add(Reshape(name=f"{block.name}.{name}", inputs=(value,), shape=shape))


def _a2c2f(to: Builder, block: Block, value: Value) -> Value:
    """A chain of attention blocks, everything joined; with `gamma` the input is added to a share of that."""
    x = single(value, block)
    made = [to.run(block.child("cv1"), x)]
    for inner in block.child("m").children():
        made.append(to.run(inner, made[-1]))
    y = to.run(block.child("cv2"), to.concat(f"{block.name}.join", made))
    gamma = block.tensor("gamma")
    if gamma is None:
        return y
    if len(gamma.shape) != 1:
        raise Unsupported(f"{block.what} has no usable `gamma`")
    shape = (1, *gamma.shape, 1, 1)
    scale = Constant(name=f"{block.name}.gamma", inputs=(y,), shape=shape)
    share = to.add(scale, {"": gamma.reshaped(shape)})
    scaled = Arithmetic(name=f"{block.name}.scaled", inputs=(y, share), kind="mul")
    return to.plus(f"{block.name}.sum", x, to.add(scaled))


LOWERINGS = {"AAttn": _aattn, "A2C2f": _a2c2f}
