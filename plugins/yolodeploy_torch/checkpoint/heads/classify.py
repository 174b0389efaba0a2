"""The head that says what an image shows: the mean of a map, and a matrix."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.heads.branches import Maps
from yolodeploy_torch.checkpoint.lowering import Builder
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.graph import (
    IMAGE,
    Classification,
    GlobalPool,
    Linear,
    Reshape,
    Softmax,
    Unsupported,
)


def _classify(
    to: Builder,
    block: Block,
    maps: Maps,
    names: tuple[str, ...],
    root: Node,  # noqa: ARG001 - its strides are 1, whatever those of the map
) -> Classification:
    with to.mark("head"):
        read = to.concat(f"{block.name}.joined", maps)
        value = to.run(block.child("conv"), read)
        pooled = to.add(GlobalPool(name=f"{block.name}.pool", inputs=(value,)))
        flat = to.add(Reshape(name=f"{block.name}.flat", inputs=(pooled,), shape=(0, -1)))
    with to.mark("head.last"):
        logits = _matrix(to, block.child("linear"), flat)
    given = to.channels(logits)
    if given != len(names):
        raise Unsupported(f"it gives {given} class scores, but it names {len(names)} classes")
    with to.mark("decode"):
        output = to.add(Softmax(name=f"{block.name}.probabilities", inputs=(logits,), axis=1))
    stride = to.shape(IMAGE)[2] // to.shape(read)[2]
    return Classification(
        names=names, strides=(stride,), features=(read,), logits=logits, output=output
    )


def _matrix(to: Builder, block: Block, value: str) -> str:
    weight, bias = block.weight("weight", 2), block.weight("bias", 1)
    if block.kind != "Linear":
        raise Unsupported(f"{block.what} is not the matrix that scores classes")
    outputs, inputs = weight.shape
    node = Linear(name=block.name, inputs=(value,), channels=(inputs, outputs))
    return to.add(node, {"weight": weight, "bias": bias})


HEADS = {"Classify": _classify}
