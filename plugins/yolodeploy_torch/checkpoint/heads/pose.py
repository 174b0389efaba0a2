"""The head that finds boxes and keypoints. That of YOLO26 has a last convolution of its own for the keypoints.

Its deviations (`sigma`) and their distribution (`flow_model`, https://arxiv.org/abs/2107.11291) are for training alone.
"""

from __future__ import annotations

import functools

from yolodeploy.compress import Part
from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads.branches import Maps, Raw, detection, levels
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Branch, Detection, Unsupported, decoded, keypoints

_MOST = 1024  # keypoints


def _pose(to: Builder, block: Block, maps: Maps, names: tuple[str, ...], root: Node) -> Detection:
    shape = _kpt_shape(block, root)
    for name in ("cv4_sigma", "one2one_cv4_sigma", "flow_model"):
        block.leave(name)
    decode = functools.partial(_keypoints, shape=shape, doubled=block.kind == "Pose")
    head = detection(to, block, maps, names, root, decode)
    return head.model_copy(update={"task": "pose", "kpt_shape": shape})


def _keypoints(to: Builder, raw: Raw, shape: tuple[int, int], *, doubled: bool) -> Branch:
    block, name = raw.block, f"{raw.prefix}cv4"
    last = None if doubled else block.child(f"{name}_kpts")
    parts: tuple[Part, Part] = ("head.keypoints", "head.keypoints")
    maps = levels(to, block.child(name), raw.features, raw.mark, parts, last)
    given, numbers = to.channels(maps[0]), shape[0] * shape[1]
    if given != numbers:
        raise Unsupported(
            f"{block.what} gives {given} numbers per anchor, but its `kpt_shape` is {list(shape)}, which is {numbers}"
        )
    with to.mark("decode", raw.mark):
        extras = keypoints(to, raw.name, maps, raw.grid, shape, doubled=doubled)
        return decoded(to, raw.name, raw.boxes, raw.scores, raw.grid, extras)


def _kpt_shape(block: Block, root: Node) -> tuple[int, int]:
    """How many keypoints there are, and how many numbers each has, as the head says or the whole model does."""
    given = block.node.state.get("kpt_shape", root.state.get("kpt_shape"))
    shape = tuple(given) if isinstance(given, list | tuple) else ()
    if len(shape) != 2 or not all(type(number) is int for number in shape):
        raise Unsupported(f"{block.what} has no usable `kpt_shape`")
    count, numbers = shape
    if not 1 <= count <= _MOST or numbers not in (2, 3):
        raise Unsupported(
            f"{block.what} has the `kpt_shape` {list(shape)}, and 1 to {_MOST} keypoints of 2 or 3 numbers are allowed"
        )
    return count, numbers


HEADS = {"Pose": _pose, "Pose26": _pose}
