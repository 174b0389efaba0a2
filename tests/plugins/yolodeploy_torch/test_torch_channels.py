"""Which channels are cut together, node by node, on graphs of a few nodes."""

from __future__ import annotations

import pytest

from yolodeploy_torch.graph import (
    AnyNode,
    Arithmetic,
    Branch,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Detection,
    Graph,
    Linear,
    MatMul,
    Reshape,
    Softmax,
    Split,
    Transpose,
)
from yolodeploy_torch.model import channel_groups


def _conv(name: str, read: str, inputs: int, outputs: int, groups: int = 1) -> Conv:
    channels = inputs, outputs
    return Conv(name=name, inputs=(read,), channels=channels, kernel=(1, 1), groups=groups)


def _sum(name: str, *read: str) -> Arithmetic:
    return Arithmetic(name=name, inputs=read, kind="add")


def _reshape(name: str, read: str, *shape: int) -> Reshape:
    return Reshape(name=name, inputs=(read,), shape=shape)


def _transpose(name: str, read: str, *order: int) -> Transpose:
    return Transpose(name=name, inputs=(read,), order=order)


def _groups(*nodes: AnyNode) -> dict[str, int]:
    """The sizes of the groups of a graph whose last node is a convolution that gives the boxes."""
    last = nodes[-1].name
    branch = Branch(boxes=(last,), scores=(), corners=last, probabilities=last, output=last)
    head = Detection(
        names=("a",), strides=(4,), reg_max=1, features=(last,), branches={"one-to-many": branch}
    )
    found = channel_groups(Graph(nodes=nodes, head=head))
    return {group.name: group.size for group in found.groups}


A, B = _conv("a", "image", 3, 8), _conv("b", "image", 3, 8)
SHUFFLE = (
    _reshape("pairs", "a", 0, 2, 4, -1),
    _transpose("turned", "pairs", 0, 2, 1, 3),
    _reshape("back", "turned", 0, 8, 8, 12),
)
HEADS = (  # two heads of 2 query, 2 key and 4 value channels
    _conv("a", "image", 3, 16),
    _reshape("heads", "a", 0, 2, 8, -1),
    Split(name="pieces", inputs=("heads",), axis=2, sizes=(2, 2, 4)),
    _transpose("query", "pieces.0", 0, 1, 3, 2),
    MatMul(name="match", inputs=("query", "pieces.1")),
    Softmax(name="shares", inputs=("match",), axis=3),
    MatMul(name="mix", inputs=("pieces.2", "shares")),
    _reshape("back", "mix", 0, 8, 8, 12),
)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ((A, _conv("last", "a", 8, 4)), {"a": 8}),
        ((A, B, _sum("sum", "a", "b"), _conv("last", "sum", 8, 4)), {"a": 8}),
        ((A, B, Concat(name="join", inputs=("a", "b")), _conv("last", "join", 16, 4)), {"a": 8, "b": 8}),
        ((A, _conv("b", "a", 8, 16, groups=8), _conv("last", "b", 16, 4)), {"a": 8}),
        ((A, _conv("b", "a", 8, 8, groups=2), _conv("last", "b", 8, 4)), {}),
        (
            (A, ConvTranspose(name="b", inputs=("a",), channels=(8, 6), kernel=(1, 1)), _conv("last", "b", 6, 4)),
            {"a": 8, "b": 6},
        ),
        (
            (A, Split(name="cut", inputs=("a",), sizes=(6, 2)), _conv("b", "cut.0", 6, 2), _sum("sum", "cut.1", "b"),
             _conv("last", "sum", 2, 4)),
            {"a.0": 6, "a.1": 2},
        ),
        (
            (A, Split(name="cut", inputs=("a",), sizes=(4, 4)), _sum("sum", "cut.0", "cut.1"), _conv("last", "sum", 4, 4)),
            {"a": 4},
        ),
        (
            (A, Constant(name="scale", inputs=("a",), shape=(1, 8, 1, 1)),
             Arithmetic(name="scaled", inputs=("a", "scale"), kind="mul"), _conv("last", "scaled", 8, 4)),
            {"a": 8},
        ),
        (
            (A, _conv("gate", "a", 8, 1), Arithmetic(name="gated", inputs=("a", "gate"), kind="mul"),
             _conv("last", "gated", 8, 4)),
            {"a": 8},
        ),
        ((A, Softmax(name="shares", inputs=("a",), axis=1), _conv("last", "shares", 8, 4)), {}),
        ((A, Linear(name="b", inputs=("a",), channels=(12, 12)), _conv("last", "b", 8, 4)), {}),
        ((A, *SHUFFLE, _conv("last", "back", 8, 4)), {}),
        ((*HEADS, _conv("last", "back", 8, 4)), {"a.0": 2, "a.1": 4}),
        ((*HEADS, B, _sum("sum", "back", "b"), _conv("last", "sum", 8, 4)), {"a.0": 2, "a.1": 4}),
    ],
    ids=[
        "plain", "sum", "join", "depthwise with a multiplier", "grouped", "transposed", "pieces", "halves that are added",
        "constant", "one gate for all", "softmax over channels", "unknown", "shuffle", "attention", "sum of heads",
    ],
)  # fmt: skip
def test_groups(nodes: tuple[AnyNode, ...], expected: dict[str, int]) -> None:
    assert _groups(*nodes) == expected
