"""Recognises a classifier's head: a convolution, the mean of its map, a matrix, and a softmax."""

from __future__ import annotations

from collections.abc import Sequence

from yolodeploy_onnx.graph.structure import Structure
from yolodeploy_torch.graph import (
    Activation,
    AnyNode,
    BatchNorm,
    Classification,
    Conv,
    GlobalPool,
    Linear,
    Reshape,
    Softmax,
)

_POINT = (1, 1)


def classification(
    structure: Structure, output: str, names: tuple[str, ...], height: int
) -> tuple[Classification, Sequence[AnyNode]] | None:
    """The head that gives the output [N, nc], of images so many pixels high, and all nodes with their parts.

    None if it is built in another way.
    """
    last = structure.makers[output]
    matrix = structure.makers.get(last.inputs[0])
    if not isinstance(last, Softmax) or not isinstance(matrix, Linear):
        return None
    node, inside = structure.makers.get(matrix.inputs[0]), set[str]()
    while isinstance(node, Reshape):
        inside.add(node.name)
        node = structure.makers.get(node.inputs[0])
    if not isinstance(node, GlobalPool):
        return None
    inside.add(node.name)
    read = _before_convolution(structure, node.inputs[0], inside)
    stride = max(1, height // structure.shapes[read][2])
    head = Classification(
        names=names, strides=(stride,), features=(read,), logits=last.inputs[0], output=output
    )
    return head, [
        each.model_copy(update={"part": "head"}) if each.name in inside else each
        for each in structure.nodes
    ]


def _before_convolution(structure: Structure, value: str, inside: set[str]) -> str:
    """The map that the convolution in front of the mean reads, if there is one; its nodes are added to `inside`."""
    node, passed = structure.makers.get(value), set[str]()
    while isinstance(node, Activation | BatchNorm):
        passed.add(node.name)
        node = structure.makers.get(node.inputs[0])
    if not passed or not isinstance(node, Conv) or node.kernel != _POINT:
        return value
    inside.update(passed, [node.name])
    return node.inputs[0]
