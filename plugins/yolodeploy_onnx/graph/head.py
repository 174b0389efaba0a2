"""Recognises a detection head behind the maps that it decodes, so that labelled losses and other passes know it.

Whether it is one is not believed but measured: the caller compares what the recognised graph computes with what the
file gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from yolodeploy.recipe import Head
from yolodeploy.system import GREY, ImageShape
from yolodeploy_onnx.graph.structure import Structure
from yolodeploy_torch.graph import (
    AnyNode,
    Arithmetic,
    Concat,
    Conv,
    Detection,
    Function,
    Graph,
    GraphBuilder,
    Grid,
    Reshape,
    Shape,
    Softmax,
    Split,
    Transpose,
    Unsupported,
    decoded,
)

_THROUGH = (Arithmetic, Concat, Function, Reshape, Softmax, Split, Transpose)
_PREFIX = "detect."
State = Mapping[str, Tensor]


def with_head(
    structure: Structure,
    state: State,
    output: str,
    names: tuple[str, ...],
    selected: Head,
    imgsz: ImageShape,
) -> tuple[Graph, dict[str, Tensor]] | None:
    """The graph with a detection head in place of the nodes that decode, and its tensors; None if there is none.

    `structure` is that of a graph with the output [1, 4 + nc, A].
    """
    last = structure.makers[output]
    if not isinstance(last, Concat) or last.axis != 1 or len(last.inputs) < 2:
        return None
    scores = _maps(structure, last.inputs[-1:])
    boxes = [node for node in _maps(structure, last.inputs[:-1]) if node not in scores]
    count = len(names)
    scores = [node for node in scores if node.channels[1] == count]
    boxes = boxes or _maps(structure, last.inputs[:-1])
    boxes = [node for node in boxes if node.channels[1] % 4 == 0 and node not in scores]
    sides = {node.channels[1] for node in boxes}
    sizes = [[structure.shapes[node.name][2:] for node in each] for each in (boxes, scores)]
    if len(sides) != 1 or sizes[0] != sizes[1] or len(set(map(tuple, sizes[0]))) < len(sizes[0]):
        return None
    strides = _strides(sizes[0], imgsz)
    if strides is None:
        return None
    maps = tuple(n.name for n in boxes), tuple(n.name for n in scores)
    try:
        return _rebuilt(structure, state, maps, names, strides, selected, imgsz)
    except Unsupported:
        return None


def _maps(structure: Structure, values: Sequence[str]) -> list[Conv]:
    """The last convolutions that values are decoded from, the finest map first."""
    pending, seen, found = list(values), set[str](), list[Conv]()
    while pending:
        value = pending.pop()
        node = structure.makers.get(value)
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if isinstance(node, Conv) and node.name not in structure.means:
            found.append(node)
        elif isinstance(node, _THROUGH) or node.name in structure.means:
            pending.extend(node.inputs)
    shapes = structure.shapes
    return sorted(found, key=lambda n: (-shapes[n.name][2], structure.place[n.name]))


def _strides(sizes: Sequence[Shape], imgsz: ImageShape) -> tuple[int, ...] | None:
    found = []
    for height, width in sizes:
        stride = imgsz.height // height
        if (height * stride, width * stride) != (imgsz.height, imgsz.width):
            return None
        found.append(stride)
    return tuple(found)


def _rebuilt(
    structure: Structure,
    state: State,
    maps: tuple[tuple[str, ...], tuple[str, ...]],
    names: tuple[str, ...],
    strides: tuple[int, ...],
    selected: Head,
    imgsz: ImageShape,
) -> tuple[Graph, dict[str, Tensor]]:
    boxes, scores = maps
    features = tuple(map(structure.feature, zip(boxes, scores, strict=True)))
    wanted = frozenset().union(*(structure.before(value) for value in boxes + scores))
    to = GraphBuilder(imgsz.channels, (imgsz.height, imgsz.width))
    for node in structure.nodes:
        if not wanted.isdisjoint(node.outputs):
            tensors = {key: state[_tensor(node, key)] for key in node.weights()}
            to.add(node, tensors)
    with to.mark("decode"):
        to.add(Grid(name=f"{_PREFIX}grid", inputs=features, strides=strides))
        branch = decoded(to, _PREFIX, boxes, scores, f"{_PREFIX}grid")
    head = Detection(
        names=names,
        strides=strides,
        reg_max=to.channels(boxes[0]) // 4,
        features=features,
        branches={selected: branch},
    )
    size = (imgsz.height, imgsz.width)
    nodes: tuple[AnyNode, ...] = tuple(to.nodes)
    channels: Literal[1, 3] = 1 if imgsz.channels == GREY else 3
    graph = Graph(channels=channels, nodes=nodes, head=head, selected=selected, size=size)
    graph.check()
    return graph, to.state


def _tensor(node: AnyNode, key: str) -> str:
    return f"{node.name}.{key}" if key else node.name
