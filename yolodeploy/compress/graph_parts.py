"""Which operations of a backend's graph decode, from its edges and the parts of its convolutions.

Names of operations change with the releases of the tools that write a graph; what feeds what does
not. A backend translates its graph into nodes and knows the names of its layers; the walk is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from yolodeploy.compress.layers import Part
from yolodeploy.errors import StepFailed

_NOT_DECODING = frozenset({"convolution", "bias", "constant"})
# The parts of the last convolutions whose results are decoded; other convolutions of these parts are read by convolutions.
_LAST: frozenset[Part] = frozenset({"head.last", "head.keypoints", "head.angle"})

Kind = Literal["convolution", "bias", "constant", "other"]


@dataclass(frozen=True)
class Node:
    """One operation of a graph; `sources` names the nodes that feed it.

    `bias` adds a constant to a convolution, in graphs where that is an operation of its own.
    """

    name: str
    kind: Kind
    sources: tuple[str, ...]


def decoding(
    nodes: Sequence[Node], outputs: Iterable[str], parts: Mapping[str, Part]
) -> tuple[str, ...]:
    """The operations that decode what the head's last convolutions give, in order of `nodes`.

    `nodes` are in order of execution, `outputs` names those whose results the model returns, and
    `parts` gives the part of every convolution, by the name of its node. An operation decodes if it
    depends on a last convolution, and every path from it to an output meets no convolution other than
    the `dfl`'s. Raises StepFailed if no last convolution reaches an output that way.
    """
    behind = {name for name, part in parts.items() if part in _LAST}
    for node in nodes:
        if behind.intersection(node.sources):
            behind.add(node.name)
    ends, computes = set(outputs), set[str]()  # what is read by the end alone, and by convolutions
    for node in reversed(nodes):
        stops = node.kind == "convolution" and parts.get(node.name) != "dfl"
        if stops or node.name in computes:
            computes.update(node.sources)
        elif node.name in ends:
            ends.update(node.sources)
    found = tuple(
        node.name
        for node in nodes
        if node.kind not in _NOT_DECODING and node.name in (behind & ends) - computes
    )
    if not found:
        raise StepFailed(
            "the end of the graph is not that of a YOLO model: no operation lies between the last "
            "convolutions of a head and the outputs. Export the model again."
        )
    return found
