"""Finds the parts of a model by its structure, as recipes select them: backbone, neck, head, head.last, decode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from yolodeploy.compress import Part
from yolodeploy_torch.graph import (
    IMAGE,
    AnyNode,
    Arithmetic,
    Conv,
    ConvTranspose,
    Linear,
    Reshape,
    Resize,
    Shape,
    Softmax,
    Transpose,
)

Nodes = Sequence[AnyNode]
_MAP = 4


class Structure:
    """What depends on what in a row of nodes."""

    def __init__(self, nodes: Nodes, shapes: dict[str, Shape]) -> None:
        self.nodes, self.shapes = nodes, shapes
        self.makers = {value: node for node in nodes for value in node.outputs}
        self.place = {value: i for i, node in enumerate(nodes) for value in node.outputs}
        self.means = {node.name for node in nodes if _mean(node, self.makers)}
        self._before: dict[str, frozenset[str]] = {IMAGE: frozenset({IMAGE})}
        for node in nodes:
            found = frozenset().union(*(self._before[value] for value in node.inputs))
            self._before.update({value: found | {value} for value in node.outputs})

    def before(self, value: str) -> frozenset[str]:
        """All values that a value depends on, itself included."""
        return self._before[value]

    def last_convolutions(self) -> list[AnyNode]:
        """The convolutions over maps behind which there is no other."""
        weighted = [n for n in self.nodes if isinstance(n, Conv | ConvTranspose | Linear)]
        maps = [n for n in weighted if n.name not in self.means]
        inner = frozenset().union(*(self.before(v) for n in maps for v in n.inputs))
        return [node for node in maps if node.name not in inner]

    def feature(self, values: Sequence[str]) -> str:
        """The last map that all of these depend on; for one value what its node reads."""
        if len(values) == 1:
            return self.makers[values[0]].inputs[0]
        common = frozenset.intersection(*(self.before(value) for value in values)) - set(values)
        maps = [value for value in common if len(self.shapes[value]) == _MAP]
        return max(maps, key=lambda value: self.place.get(value, -1))

    def parts(self) -> list[Part]:
        """The part of every node."""
        lasts = self.last_convolutions()
        levels: dict[Shape, list[str]] = {}
        for node in lasts:
            levels.setdefault(self.shapes[node.name][2:], []).append(node.name)
        stems = {self.feature(values) for values in levels.values()}
        body = frozenset().union(*(self.before(value) for value in stems))
        names = {node.name for node in lasts}
        ahead = frozenset().union(*(self.before(name) for name in names))
        found: list[Part] = []
        enlarged: set[str] = set()
        for node in self.nodes:
            if isinstance(node, Resize | ConvTranspose) or not enlarged.isdisjoint(node.inputs):
                enlarged.update(node.outputs)
            found.append(self._part(node, names, body, ahead, enlarged))
        return found

    def _part(
        self,
        node: AnyNode,
        lasts: set[str],
        body: frozenset[str],
        ahead: frozenset[str],
        enlarged: set[str],
    ) -> Part:
        if node.name in lasts:
            return "head.last"
        if body.isdisjoint(node.outputs):
            if not ahead.isdisjoint(node.outputs):
                return "head"
            return "dfl" if node.name in self.means else "decode"
        return "backbone" if enlarged.isdisjoint(node.outputs) else "neck"


def _mean(node: AnyNode, makers: dict[str, AnyNode]) -> bool:
    """Whether a layer gives the mean of a distribution, as behind the box branches: what a softmax gives, summed up."""
    if not isinstance(node, Conv | Linear) or node.channels[1] != 1:
        return False
    before = makers.get(node.inputs[0])
    while isinstance(before, Reshape | Transpose | Arithmetic):
        before = makers.get(before.inputs[0])
    return isinstance(before, Softmax)


def passed_on_parts(proto: ModelProto) -> dict[str, Part]:
    """The parts of the layers of a file that is passed on, by the names of their nodes, in order of execution.

    A layer that no other with weights follows is `head.last`. Of the others, convolutions are `backbone`, and matrices,
    as a transformer has them, `head`.
    """
    constants = {tensor.name for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    layers = [node for node in proto.graph.node if not constants.isdisjoint(node.input[1:2])]
    layers = [
        node for node in layers if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    ]
    names = {node.output[0] for node in layers}
    means = {node.name for node in layers if _counts(node, proto)}
    names -= {node.output[0] for node in layers if node.name in means}
    followed = set[str]()  # the values that a layer depends on
    for node in reversed(proto.graph.node):
        if not names.isdisjoint(node.output) or not followed.isdisjoint(node.output):
            followed.update(node.input)
    found: dict[str, Part] = {}
    for node in layers:
        body: Part = "backbone" if node.op_type.startswith("Conv") else "head"
        body = body if not followed.isdisjoint(node.output) else "head.last"
        found[node.name] = "dfl" if node.name in means else body
    return found


def _counts(node: NodeProto, proto: ModelProto) -> bool:
    """Whether a convolution gives the mean of a distribution: its only kernel is 0, 1, 2, ..."""
    kernel = next(tensor for tensor in proto.graph.initializer if tensor.name == node.input[1])
    if node.op_type != "Conv" or kernel.dims[0] != 1:
        return False
    numbers = numpy_helper.to_array(kernel).ravel()
    return bool(np.array_equal(numbers, np.arange(len(numbers))))


def marked(
    nodes: Nodes, shapes: dict[str, Shape], outputs: Sequence[str] = ()
) -> tuple[AnyNode, ...]:
    """The same nodes, each with its part; what only the outputs behind the first depend on makes prototypes of masks."""
    structure = Structure(nodes, shapes)
    beside = set[str]()
    if others := outputs[1:]:
        beside.update(*map(structure.before, others))
        beside -= structure.before(outputs[0])
    main = [node for node in nodes if beside.isdisjoint(node.outputs)]
    parts = dict(zip((n.name for n in main), Structure(main, shapes).parts(), strict=True))
    return tuple(
        node.model_copy(update={"part": parts.get(node.name, "head.proto")}) for node in nodes
    )
