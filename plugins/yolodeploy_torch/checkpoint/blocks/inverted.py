"""Compact inverted blocks (YOLOv10)."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single


def _cib(to: Builder, block: Block, value: Value) -> Value:
    x = single(value, block)
    y = to.run(block.child("cv1"), x)
    return to.plus(f"{block.name}.sum", x, y) if block.setting("add", bool) else y


LOWERINGS = {"CIB": _cib}
