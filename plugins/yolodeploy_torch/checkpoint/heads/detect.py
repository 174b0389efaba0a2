"""The head that finds boxes."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads.branches import Maps, Raw, detection
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import Branch, Detection, decoded


def _detect(to: Builder, block: Block, maps: Maps, names: tuple[str, ...], root: Node) -> Detection:
    return detection(to, block, maps, names, root, _boxes)


def _boxes(to: Builder, raw: Raw) -> Branch:
    with to.mark("decode", raw.mark):
        return decoded(to, raw.name, raw.boxes, raw.scores, raw.grid)


HEADS = {"Detect": _detect, "v10Detect": _detect}
