"""The table of a model: its nodes in order of execution, and what its head is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.recipe import Head
from yolodeploy_torch.graph.heads import (
    Branch,
    Classification,
    Detection,
    OpenHead,
    reference_size,
)
from yolodeploy_torch.graph.nodes import Count, Row, Shape, Unsupported, bounded
from yolodeploy_torch.graph.operations import AnyNode

IMAGE = "image"
_MOST_NODES = 20_000


class Graph(Row):
    """A whole model: nodes, each after those that it reads; the head, and which of its branches is used.

    Of an open head, `selected` says whether the output has duplicates: that of "one-to-one" needs no suppression.
    `size` is the height and width of the only images that it takes; None: of any that the strides divide.
    """

    format: Literal[1] = 1
    channels: Literal[1, 3] = 3
    nodes: tuple[AnyNode, ...] = Field(max_length=_MOST_NODES)
    head: Detection | Classification | OpenHead
    selected: Head = "one-to-many"
    size: tuple[Count, Count] | None = None

    @property
    def reference(self) -> tuple[int, int]:
        """Height and width of an image for which it is checked."""
        return self.size or reference_size(self.head.strides)

    @property
    def task(self) -> str:
        """What the model is trained to do, as `ModelInfo.task` has it."""
        return "classify" if isinstance(self.head, Classification) else self.head.task

    @property
    def detection(self) -> Detection:
        """Its head; raises `Unsupported` if only the output of that is known, or it finds no objects."""
        if isinstance(self.head, OpenHead):
            raise Unsupported("of its head only the output is known")
        if isinstance(self.head, Classification):
            raise Unsupported("its head finds no objects")
        return self.head

    @property
    def branch(self) -> Branch:
        """The branch of the head that is used; raises `Unsupported` as `detection` does."""
        return self.detection.branches[self.selected]

    @property
    def output(self) -> str:
        """The main value that the model gives."""
        head = self.head
        return head.branches[self.selected].output if isinstance(head, Detection) else head.output

    @property
    def outputs(self) -> dict[str, str]:
        """All values that the model gives, in order, by the names that a predictor gives them."""
        head = self.head
        masks = None if isinstance(head, Classification) else head.prototypes
        return {OUTPUT: self.output, **({} if masks is None else {PROTOTYPES: masks})}

    @property
    def heads(self) -> tuple[Head, ...]:
        """The branches that it has, the one that is used first; of an open head, what its output is like."""
        known = self.head.branches if isinstance(self.head, Detection) else ()
        others = tuple(head for head in sorted(known) if head != self.selected)
        return (self.selected, *others)

    def opened(self) -> Graph:
        """The same model as if only the output of its head were known."""
        known = self.head
        if isinstance(known, OpenHead):
            return self
        head = OpenHead(names=known.names, strides=known.strides, output=self.output)
        if isinstance(known, Detection):
            more = {"prototypes": known.prototypes, "kpt_shape": known.kpt_shape}
            head = head.model_copy(update={"task": known.task, **more})
        else:
            head = head.model_copy(update={"task": "classify"})
        return self.model_copy(update={"head": head})

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
        """The nodes that these values depend on (as given: all outputs), in order of execution."""
        wanted, found = set(values or self.outputs.values()), list[AnyNode]()
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

    def check_tensors(self, given: Mapping[str, Shape]) -> None:
        """Raise `Unsupported` unless these are the shapes of the tensors that it needs, by name."""
        expected = self.tensors()
        if expected.keys() != given.keys():
            odd = min(expected.keys() ^ given.keys())
            raise Unsupported(f"its weight {odd} is missing, or does not belong to it")
        for name, shape in expected.items():
            if given[name] != shape:
                raise Unsupported(f"its weight {name} is {given[name]}, but {shape} is needed")

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
        return self.model_copy(update={"nodes": made, "head": self.head.renamed(renamed)})

    def check(self) -> None:
        """Raise `Unsupported` unless all nodes, and the head, fit together."""
        self.head.check(self.selected, self.shapes(*self.reference), self.reference)
