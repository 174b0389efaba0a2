"""The table of a model: its nodes in order of execution, and what its head is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from yolodeploy.recipe import Head
from yolodeploy_torch.graph.nodes import Count, Row, Shape, Unsupported, bounded
from yolodeploy_torch.graph.operations import AnyNode

IMAGE = "image"
_MOST_NODES = 20_000
_COARSEST = (
    128  # the stride of the coarsest map of any family, so that a wrong stride shows at the head
)


class Branch(Row):
    """One set of outputs of a detection head.

    `boxes` and `scores` are the maps of its last convolutions, one per level: 4 * reg_max box logits, and class
    logits. `corners` [N, 4, A] (x1, y1, x2, y2 in px) and `probabilities` [N, nc, A] are what they decode to,
    `output` [N, 4 + nc, A] the two as centre, size and scores.
    """

    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    corners: str
    probabilities: str
    output: str


class Detection(Row):
    """A detection head: classes, strides, the number of bins of a box side, and the maps that it reads.

    With one bin, a box side is a plain distance in cells.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)
    reg_max: Annotated[int, Field(ge=1, le=1 << 14)]
    features: tuple[str, ...]
    branches: dict[Head, Branch] = Field(min_length=1)


def reference_size(strides: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an image for which a model with these strides is checked."""
    step = math.lcm(_COARSEST, *strides)
    return 2 * step, 3 * step


class Graph(Row):
    """A whole model: nodes, each after those that it reads; the head, and which of its branches is used."""

    format: Literal[1] = 1
    channels: Literal[1, 3] = 3
    nodes: tuple[AnyNode, ...] = Field(max_length=_MOST_NODES)
    head: Detection
    selected: Head = "one-to-many"

    @property
    def branch(self) -> Branch:
        """The branch of the head that is used."""
        return self.head.branches[self.selected]

    @property
    def output(self) -> str:
        """The value that the model gives."""
        return self.branch.output

    @property
    def heads(self) -> tuple[Head, ...]:
        """The branches that it has, the one that is used first."""
        others = tuple(head for head in sorted(self.head.branches) if head != self.selected)
        return (self.selected, *others)

    def makers(self) -> dict[str, AnyNode]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs}

    def readers(self) -> dict[str, list[AnyNode]]:
        """The nodes that read each value, in order of execution."""
        found: dict[str, list[AnyNode]] = {IMAGE: []}
        for node in self.nodes:
            found.update({value: [] for value in node.outputs})
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found

    def needed(self, *values: str) -> tuple[AnyNode, ...]:
        """The nodes that these values depend on (as given: the output), in order of execution."""
        wanted, found = set(values or (self.output,)), list[AnyNode]()
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.outputs):
                wanted.update(node.inputs)
                found.append(node)
        return tuple(reversed(found))

    def tensors(self) -> dict[str, Shape]:
        """The shape of every tensor of the model, by name."""
        return {
            f"{node.name}.{key}" if key else node.name: shape
            for node in self.nodes
            for key, shape in node.weights().items()
        }

    def shapes(self, height: int, width: int, batch: int = 1) -> dict[str, Shape]:
        """The shape of every value for images of this size; raises `Unsupported` if something does not fit."""
        found: dict[str, Shape] = {IMAGE: (batch, self.channels, height, width)}
        for node in self.nodes:
            missing = [value for value in node.inputs if value not in found]
            if missing or not found.keys().isdisjoint(node.outputs):
                odd = (
                    f"reads {missing[0]}, which nothing makes before it"
                    if missing
                    else "is twofold"
                )
                raise Unsupported(f"its layer {node.name} {odd}")
            try:
                made = node.shapes(*(found[value] for value in node.inputs))
            except Unsupported as error:
                raise Unsupported(
                    f"its layer {node.name} ({node.op}) does not fit: {error}"
                ) from error
            bounded(node.name, made)
            found.update(zip(node.outputs, made, strict=True))
        return found

    def replaced(self, nodes: Iterable[AnyNode], renamed: Mapping[str, str]) -> Graph:
        """The same model made of other nodes; `renamed` are the values that now bear another name."""

        def new(values: Iterable[str]) -> tuple[str, ...]:
            return tuple(renamed.get(value, value) for value in values)

        made = tuple(node.model_copy(update={"inputs": new(node.inputs)}) for node in nodes)
        branches = {
            kind: Branch(
                boxes=new(branch.boxes),
                scores=new(branch.scores),
                corners=renamed.get(branch.corners, branch.corners),
                probabilities=renamed.get(branch.probabilities, branch.probabilities),
                output=renamed.get(branch.output, branch.output),
            )
            for kind, branch in self.head.branches.items()
        }
        head = {"features": new(self.head.features), "branches": branches}
        return self.model_copy(update={"nodes": made, "head": self.head.model_copy(update=head)})

    def check(self) -> None:
        """Raise `Unsupported` unless all nodes, and the head, fit together."""
        if self.selected not in self.head.branches:
            raise Unsupported(f"it has no {self.selected} head")
        height, width = reference_size(self.head.strides)
        found = self.shapes(height, width)
        for values, what, channels in self._claims():
            if len(values) != len(self.head.strides):
                raise Unsupported(f"its head needs one map of {what} per level")
            for value, stride in zip(values, self.head.strides, strict=True):
                shape, size = found.get(value, ()), (height // stride, width // stride)
                if shape[2:] != size or channels not in (None, shape[1]):
                    raise Unsupported(
                        f"its head reads {what} of shape {shape} as those of stride {stride}"
                    )
        anchors = sum(height * width // stride**2 for stride in self.head.strides)
        for branch in self.head.branches.values():
            expected = (1, 4 + len(self.head.names), anchors)
            if found.get(branch.output) != expected:
                raise Unsupported(
                    f"its output has the shape {found.get(branch.output)}, and with {len(self.head.names)} "
                    f"classes it should be {expected}"
                )
            if found.get(branch.corners) != (1, 4, anchors):
                raise Unsupported(f"it has no corners of boxes named {branch.corners}")
            if found.get(branch.probabilities) != (1, len(self.head.names), anchors):
                raise Unsupported(f"it has no scores named {branch.probabilities}")

    def _claims(self) -> Iterator[tuple[tuple[str, ...], str, int | None]]:
        head = self.head
        for branch in head.branches.values():
            yield branch.boxes, "boxes", 4 * head.reg_max
            yield branch.scores, "scores", len(head.names)
        yield head.features, "features", None
