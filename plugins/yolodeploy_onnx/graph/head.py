"""Recognises a head behind the maps that it decodes, so that labelled losses and other passes know it.

Whether it is one is not believed but measured: the caller compares what the recognised graph computes with what the
file gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple

from torch import Tensor

from yolodeploy.compress import Part
from yolodeploy.recipe import Head
from yolodeploy.system import GREY, ImageShape
from yolodeploy_onnx.graph.structure import Structure
from yolodeploy_onnx.interface import Purpose
from yolodeploy_torch.graph import (
    AnyNode,
    Arithmetic,
    Branch,
    Classification,
    Concat,
    Conv,
    Detection,
    Extras,
    Function,
    Graph,
    GraphBuilder,
    Grid,
    OpenHead,
    Reshape,
    Shape,
    Softmax,
    Split,
    Transpose,
    Unsupported,
    angles,
    coefficients,
    decoded,
    keypoints,
    rotated,
)

_THROUGH = (Arithmetic, Concat, Function, Reshape, Softmax, Split, Transpose)
_PREFIX = "detect."
_GRID = f"{_PREFIX}grid"
_OWN: Mapping[str, Part] = {"pose": "head.keypoints", "obb": "head.angle"}
State = Mapping[str, Tensor]
Found = tuple[Graph, dict[str, Tensor]]


class Maps(NamedTuple):
    """The last convolutions that an output is decoded from, one per level: of boxes, scores, and what the task adds."""

    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    extras: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What a head must be: what the file is for, whether its output has duplicates, and the values that it gives."""

    purpose: Purpose
    selected: Head
    imgsz: ImageShape
    outputs: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[bool, ...]:
        """The ways in which what the task adds may be decoded."""
        return (True, False) if self.purpose.task in _OWN else (True,)


def with_head(structure: Structure, state: State, wanted: Wanted) -> Iterator[Found]:
    """Graphs with a detection head in place of the nodes that decode, and their tensors; the likeliest first.

    `structure` is that of a graph with the output [1, 4 + nc + extras, A], and with prototypes of masks if it has any.
    """
    last = _joining(structure, wanted.outputs[0])
    if last is None or len(last.inputs) < 2:
        return
    levels = _levels(_maps(structure, last.inputs), structure)
    strides = _strides([structure.shapes[level[0].name][2:] for level in levels], wanted.imgsz)
    if strides is None:
        return
    for maps in _assigned(levels, wanted.purpose):
        for variant in wanted.variants:
            with contextlib.suppress(Unsupported):
                yield _rebuilt(structure, state, maps, wanted, strides, variant)


def _joining(structure: Structure, output: str) -> Concat | None:
    """What joins boxes and scores to the output; behind it axes may be turned, and turned back."""
    node, axis = structure.makers.get(output), 1
    while isinstance(node, Transpose):
        axis, node = node.order[axis], structure.makers.get(node.inputs[0])
    return node if isinstance(node, Concat) and node.axis == axis else None


def _levels(maps: Sequence[Conv], structure: Structure) -> list[list[Conv]]:
    """Convolutions by the size of their maps, the largest first, in order of execution."""
    found: dict[Shape, list[Conv]] = {}
    for node in maps:
        found.setdefault(structure.shapes[node.name][2:], []).append(node)
    return list(found.values())


def _assigned(levels: Sequence[Sequence[Conv]], purpose: Purpose) -> Iterator[Maps]:
    """What the convolutions of every level can be by their channels, in the same order at all levels.

    Boxes have the same multiple of 4 everywhere.
    """
    extras = purpose.extras
    roles = 3 if extras else 2
    if not levels or any(len(level) != roles for level in levels):
        return
    counts = (None, len(purpose.names), extras)
    for order in permutations(range(roles)):
        made = [[level[place] for place in order] for level in levels]
        sides = {level[0].channels[1] for level in made}
        fits = len(sides) == 1 and not max(sides) % 4
        if fits and all(
            node.channels[1] == count
            for level in made
            for node, count in zip(level[1:], counts[1:], strict=False)
        ):
            names = [tuple(node.name for node in role) for role in zip(*made, strict=True)]
            yield Maps(names[0], names[1], names[2] if extras else ())


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
    maps: Maps,
    wanted: Wanted,
    strides: tuple[int, ...],
    variant: bool,
) -> Found:
    task, roles = wanted.purpose.task, tuple(filter(None, maps))
    if task == "classify":
        raise Unsupported("its head finds no objects")
    prototypes = wanted.outputs[1:]
    features = tuple(map(structure.feature, zip(*roles, strict=True)))
    kept = frozenset().union(*(structure.before(v) for v in (*sum(roles, ()), *prototypes)))
    own = _own_branch(structure, maps, wanted.purpose)
    to = GraphBuilder(wanted.imgsz.channels, (wanted.imgsz.height, wanted.imgsz.width))
    for node in structure.nodes:
        if not kept.isdisjoint(node.outputs):
            part = own.get(node.name, node.part)
            tensors = {key: state[_tensor(node, key)] for key in node.weights()}
            to.add(node.model_copy(update={"part": part}), tensors)
    with to.mark("decode"):
        to.add(Grid(name=_GRID, inputs=features, strides=strides))
        branch = _branch(to, maps, wanted.purpose, variant)
    head = Detection(
        names=wanted.purpose.names,
        strides=strides,
        reg_max=to.channels(maps.boxes[0]) // 4,
        features=features,
        branches={wanted.selected: branch},
        task=task,
        prototypes=prototypes[0] if prototypes else None,
        kpt_shape=wanted.purpose.kpt_shape,
    )
    return finished(to.nodes, head, wanted), to.state


def _own_branch(structure: Structure, maps: Maps, purpose: Purpose) -> dict[str, Part]:
    """The part of nodes that only keypoints or angles depend on."""
    if purpose.task not in _OWN:
        return {}
    others = frozenset().union(*(structure.before(value) for value in maps.boxes + maps.scores))
    alone = frozenset().union(*(structure.before(value) for value in maps.extras)) - others
    return {
        node.name: _OWN[purpose.task]
        for node in structure.nodes
        if not alone.isdisjoint(node.outputs)
    }


def told_apart(structure: Structure, wanted: Wanted) -> tuple[AnyNode, ...]:
    """All nodes of a model whose head is not known, the last layers before keypoints or angles with the part of those.

    Backends tell the task by it. Where one layer gives everything, it has that part.
    """
    purpose = wanted.purpose
    if purpose.task not in _OWN:
        return tuple(structure.nodes)
    output, joined = wanted.outputs[0], _joining(structure, wanted.outputs[0])
    value = joined.inputs[-1] if joined else output
    if purpose.extras not in structure.shapes[value]:
        value = output
    return tuple(
        node.model_copy(update={"part": _OWN[purpose.task]})
        if node.part == "head.last" and node.name in structure.before(value)
        else node
        for node in structure.nodes
    )


def _branch(to: GraphBuilder, maps: Maps, purpose: Purpose, variant: bool) -> Branch:
    """Decode maps; the variant is that of the families before YOLO26."""
    boxes, scores, found = maps
    if purpose.task == "obb":
        turns = angles(to, _PREFIX, found, bounded=variant)
        return rotated(to, _PREFIX, boxes, scores, _GRID, turns)
    extras: Extras | None = None
    if purpose.task == "segment":
        extras = coefficients(to, _PREFIX, found)
    elif purpose.kpt_shape:
        extras = keypoints(to, _PREFIX, found, _GRID, purpose.kpt_shape, doubled=variant)
    return decoded(to, _PREFIX, boxes, scores, _GRID, extras)


def finished(
    nodes: Sequence[AnyNode], head: Detection | Classification | OpenHead, wanted: Wanted
) -> Graph:
    """The graph of these nodes; raises `Unsupported` if its head does not fit."""
    channels: Literal[1, 3] = 1 if wanted.imgsz.channels == GREY else 3
    size = (wanted.imgsz.height, wanted.imgsz.width)
    graph = Graph(
        channels=channels, nodes=tuple(nodes), head=head, selected=wanted.selected, size=size
    )
    graph.check()
    return graph


def _tensor(node: AnyNode, key: str) -> str:
    return f"{node.name}.{key}" if key else node.name
