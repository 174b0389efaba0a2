"""Which operations of a backend's graph decode, from its edges and the parts of its convolutions.

Names of operations change with the releases of the tools that write a graph; what feeds what does
not. A backend translates its graph into nodes and knows the names of its layers; the walk is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from yolodeploy.compress.layers import Part
from yolodeploy.errors import StepFailed

_NOT_DECODING = frozenset({"convolution", "bias", "constant"})

Kind = Literal["convolution", "upsample", "softmax", "bias", "constant", "other"]


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
    behind = {name for name, part in parts.items() if part == "head.last"}
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
            "the end of the graph is not that of a YOLO detector: no operation lies between the last "
            "convolutions of a head and the outputs. Export a detection model."
        )
    return found


def find_parts(nodes: Sequence[Node], outputs: Iterable[str]) -> dict[str, Part]:
    """The part of every convolution, and of every node that decodes, by name, in order of `nodes`.

    `nodes` are in order of execution; `outputs` names those whose results the model returns. From
    the outputs back to the nearest convolutions is `decode`; those convolutions are `head.last`,
    except the one that a softmax feeds, which is `dfl` and is walked through. A convolution that
    reaches a single `head.last` is `head`; of the others, `neck` are those that an upsampled map
    reaches, and `backbone` the rest. Raises StepFailed if the graph does not end like a detector.
    """
    tail = _walk_back({node.name: node for node in nodes}, outputs)
    last = {name for name, part in tail.items() if part == "head.last"}
    if not last or "dfl" not in tail.values():
        raise StepFailed(
            "the graph is not that of a YOLO detector: between its convolutions and its output there "
            "is no softmax over box distances. Export a YOLOv8 detection model."
        )
    ends, upsampled = _ends(nodes, last), _upsampled(nodes)
    parts: dict[str, Part] = {}
    for node in nodes:
        if node.name in tail:
            parts[node.name] = tail[node.name]
        elif node.kind == "convolution":
            body: Part = "neck" if node.name in upsampled else "backbone"
            parts[node.name] = "head" if len(ends[node.name]) == 1 else body
    return parts


def _walk_back(nodes: Mapping[str, Node], outputs: Iterable[str]) -> dict[str, Part]:
    """The nodes from the outputs back to the nearest convolutions, those included."""
    found: dict[str, Part] = {}
    pending = list(outputs)
    while pending:
        node = nodes.get(pending.pop())
        if node is None or node.kind == "constant" or node.name in found:
            continue
        if node.kind == "convolution":
            feeding = {nodes[source].kind for source in node.sources if source in nodes}
            found[node.name] = "dfl" if "softmax" in feeding else "head.last"
        elif node.kind != "bias":
            found[node.name] = "decode"
        if found.get(node.name) != "head.last":
            pending += node.sources
    return found


def _ends(nodes: Sequence[Node], last: set[str]) -> Mapping[str, set[str]]:
    """The last convolutions that depend on each node."""
    ends: dict[str, set[str]] = defaultdict(set)
    for node in reversed(nodes):
        reached = {node.name} if node.name in last else ends[node.name]
        for source in node.sources:
            ends[source] |= reached
    return ends


def _upsampled(nodes: Sequence[Node]) -> set[str]:
    """The nodes that an upsampled map reaches."""
    found: set[str] = set()
    for node in nodes:
        if node.kind == "upsample" or found.intersection(node.sources):
            found.add(node.name)
    return found
