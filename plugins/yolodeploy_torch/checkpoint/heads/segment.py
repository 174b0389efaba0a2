"""The head that finds boxes and masks: a mask is a sum of prototypes, weighted by coefficients (YOLACT).

See https://arxiv.org/abs/1904.02689. Prototypes are made of the finest map; YOLO26 adds the coarser ones to it.
"""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads.branches import Maps, Raw, detection, levels
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Branch, Detection, Resize, Unsupported, coefficients, decoded


def _segment(
    to: Builder, block: Block, maps: Maps, names: tuple[str, ...], root: Node
) -> Detection:
    head = detection(to, block, maps, names, root, _masks)
    proto = block.child("proto")
    proto.leave("semseg")
    with to.mark("head.proto"):
        read = maps[0]
        if proto.kind == "Proto26":
            read = _refined(to, proto, maps, head.strides)
        units = [proto.child(name) for name in ("cv1", "upsample", "cv2", "cv3")]
        prototypes = to.chain(units, read)
    return head.model_copy(update={"task": "segment", "prototypes": prototypes})


def _masks(to: Builder, raw: Raw) -> Branch:
    maps = levels(to, raw.block.child(f"{raw.prefix}cv4"), raw.features, raw.mark)
    with to.mark("decode", raw.mark):
        extras = coefficients(to, raw.name, maps)
        return decoded(to, raw.name, raw.boxes, raw.scores, raw.grid, extras)


def _refined(to: Builder, proto: Block, maps: Maps, strides: tuple[int, ...]) -> str:
    """The finest map and the coarser ones, enlarged to its size, in one."""
    total, refining = maps[0], proto.child("feat_refine").children()
    if len(refining) != len(maps) - 1:
        raise Unsupported(f"{proto.what} refines {len(refining)} of {len(maps)} maps")
    for level, (unit, read) in enumerate(zip(refining, maps[1:], strict=True), 1):
        made, scale = to.run(unit, read), strides[level] // strides[0]
        name = f"{proto.name}.enlarged.{level}"
        enlarged = to.add(Resize(name=name, inputs=(made,), scale=scale))
        total = to.plus(f"{proto.name}.sum.{level}", total, enlarged)
    return to.run(proto.child("feat_fuse"), total)


HEADS = {"Segment": _segment, "Segment26": _segment}
