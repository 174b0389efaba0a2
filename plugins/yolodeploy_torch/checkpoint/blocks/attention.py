"""Self-attention over the cells of a map, and the blocks around it (YOLOv10, 11, 26)."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Arithmetic, MatMul, Reshape, Softmax, Split, Transpose


def _attention(to: Builder, block: Block, value: Value) -> Value:
    """Heads of `key_dim` query and key channels and `head_dim` value channels, in this order."""
    heads, key, head = (block.setting(name, int) for name in ("num_heads", "key_dim", "head_dim"))
    made = to.run(block.child("qkv"), value)
    flat = Reshape(name=f"{block.name}.heads", inputs=(made,), shape=(0, heads, 2 * key + head, -1))
    pieces = Split(
        name=f"{block.name}.pieces", inputs=(to.add(flat),), axis=2, sizes=(key, key, head)
    )
    to.add(pieces)
    query, keys, values = pieces.outputs
    attended = attend(to, block, query, keys, values, key)
    here = [
        to.add(
            Reshape(
                name=f"{block.name}.{name}",
                inputs=(each, made),
                shape=(0, heads * head, "height", "width"),
            )
        )
        for name, each in (("attended", attended), ("values", values))
    ]
    total = to.plus(f"{block.name}.sum", here[0], to.run(block.child("pe"), here[1]))
    return to.run(block.child("proj"), total)


def attend(to: Builder, block: Block, query: str, keys: str, values: str, width: int) -> str:
    """What every cell takes from all cells; values are [N, heads, channels, cells]."""
    name = block.name
    scaled = Arithmetic(name=f"{name}.scaled", inputs=(query,), kind="mul", number=width**-0.5)
    turned = Transpose(name=f"{name}.turned", inputs=(to.add(scaled),), order=(0, 1, 3, 2))
    weights = MatMul(name=f"{name}.match", inputs=(to.add(turned), keys))
    shares = Softmax(name=f"{name}.shares", inputs=(to.add(weights),), axis=3)
    back = Transpose(name=f"{name}.back", inputs=(to.add(shares),), order=(0, 1, 3, 2))
    return to.add(MatMul(name=f"{name}.mix", inputs=(values, to.add(back))))


def _residual(to: Builder, block: Block, value: Value, names: tuple[str, str]) -> Value:
    """Two blocks, each added to what it reads."""
    x = single(value, block)
    for name in names:
        y = to.run(block.child(name), x)
        x = to.plus(f"{block.name}.{name}_sum", x, y)
    return x


def _psa_block(to: Builder, block: Block, value: Value) -> Value:
    if block.setting("add", bool):
        return _residual(to, block, value, ("attn", "ffn"))
    return to.chain([block.child("attn"), block.child("ffn")], single(value, block))


def a_block(to: Builder, block: Block, value: Value) -> Value:
    """Area attention, then a network of two units, each added to its input."""
    return _residual(to, block, value, ("attn", "mlp"))


def _psa(to: Builder, block: Block, value: Value) -> Value:
    """Attention on the second half of the channels."""
    first, second = to.halves(f"{block.name}.halves", to.run(block.child("cv1"), value))
    second = single(_residual(to, block, second, ("attn", "ffn")), block)
    return to.run(block.child("cv2"), to.concat(f"{block.name}.join", (first, second)))


def _c2psa(to: Builder, block: Block, value: Value) -> Value:
    first, second = to.halves(f"{block.name}.halves", to.run(block.child("cv1"), value))
    second = to.run(block.child("m"), second)
    return to.run(block.child("cv2"), to.concat(f"{block.name}.join", (first, second)))


LOWERINGS = {
    "Attention": _attention,
    "PSABlock": _psa_block,
    "PSA": _psa,
    "C2PSA": _c2psa,
    "ABlock": a_block,
}
