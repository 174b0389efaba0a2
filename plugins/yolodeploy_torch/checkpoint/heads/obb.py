"""The head that finds rotated boxes: a branch gives the angle of each. That of YOLO26 is not bounded."""

from __future__ import annotations

import functools

from yolodeploy.compress import Part
from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads.branches import Maps, Raw, detection, levels
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Branch, Detection, Unsupported, angles, rotated


def _obb(to: Builder, block: Block, maps: Maps, names: tuple[str, ...], root: Node) -> Detection:
    decode = functools.partial(_turned, bounded=block.kind == "OBB")
    head = detection(to, block, maps, names, root, decode)
    return head.model_copy(update={"task": "obb"})


def _turned(to: Builder, raw: Raw, *, bounded: bool) -> Branch:
    block = raw.block
    parts: tuple[Part, Part] = ("head.angle", "head.angle")
    maps = levels(to, block.child(f"{raw.prefix}cv4"), raw.features, raw.mark, parts)
    if any(to.channels(each) != 1 for each in maps):
        raise Unsupported(f"{block.what} gives {to.channels(maps[0])} angles per box, not one")
    with to.mark("decode", raw.mark):
        extras = angles(to, raw.name, maps, bounded=bounded)
        return rotated(to, raw.name, raw.boxes, raw.scores, raw.grid, extras)


HEADS = {"OBB": _obb, "OBB26": _obb}
