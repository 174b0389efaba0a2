"""Spatial pyramid pooling."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.blocks.units import max_pool
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Unsupported

_POOLS = 3  # where an older checkpoint does not say it
_MOST_POOLS = 16  # a small file could ask for any number


def _sppf(to: Builder, block: Block, value: Value) -> Value:
    """A map and successive poolings of it, joined; their input is added in YOLO26."""
    x = single(value, block)
    made = [to.run(block.child("cv1"), x)]
    count = block.setting("n", int, _POOLS)
    if not 0 <= count <= _MOST_POOLS:
        raise Unsupported(f"{block.what} pools {count} times, and 0 to {_MOST_POOLS} is allowed")
    for number in range(count):
        made.append(max_pool(to, block.child("m"), made[-1], f"{block.name}.m.{number}"))
    y = to.run(block.child("cv2"), to.concat(f"{block.name}.join", made))
    added = block.setting("add", bool, default=False)
    return to.plus(f"{block.name}.sum", y, x) if added else y


def _sppelan(to: Builder, block: Block, value: Value) -> Value:
    made = [to.run(block.child("cv1"), value)]
    for name in ("cv2", "cv3", "cv4"):
        made.append(to.run(block.child(name), made[-1]))
    return to.run(block.child("cv5"), to.concat(f"{block.name}.join", made))


def _spp(to: Builder, block: Block, value: Value) -> Value:
    """A map and poolings of it by several windows, joined."""
    x = to.run(block.child("cv1"), value)
    pooled = [to.run(pool, x) for pool in block.child("m").children()]
    return to.run(block.child("cv2"), to.concat(f"{block.name}.join", [x, *pooled]))


LOWERINGS = {"SPPF": _sppf, "SPPELAN": _sppelan, "SPP": _spp}
