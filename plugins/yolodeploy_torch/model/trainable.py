"""What training needs of a model: the maps that its head reads, and the logits of every head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, fx, nn
from torch.fx import GraphModule

from yolodeploy.recipe import Head
from yolodeploy_torch.graph import (
    AnyNode,
    Branch,
    Classification,
    Graph,
    OpenHead,
    assemble,
    graph_in,
)

_MAP = 4  # axes of a map
_FINEST = 8  # stride


class Logits(NamedTuple):
    """The results of a head's last convolutions per level: boxes [N, 4 * bins, h, w], scores [N, nc, h, w].

    `extras` [N, E, h, w] are those of the task, `decoded` [N, E, A] what they mean: mask coefficients, keypoints in px
    with visibilities in 0..1, angles in radians. A plain detector has none.
    """

    boxes: list[Tensor]
    scores: list[Tensor]
    extras: Sequence[Tensor] = ()
    decoded: Tensor | None = None

    @property
    def extra(self) -> Tensor:
        """What the extras mean, float32; ValueError for a plain detector."""
        if self.decoded is None:
            raise ValueError("the head gives nothing but boxes and scores")
        return self.decoded.float()


class Outputs(NamedTuple):
    """What `Trainable` gives: the maps [N, C, h, w] that the head reads per level, and logits by head.

    Of an open head: its `output` instead of logits, [N, 4 + nc + E, A] or [N, nc], and the maps that `features` names. A segmentation
    model has `prototypes` [N, coefficients, H', W'] besides, a classifier only `classes` [N, nc], its logits.
    """

    features: list[Tensor]
    heads: Mapping[Head, Logits]
    output: Tensor | None = None
    prototypes: Tensor | None = None
    classes: Tensor | None = None


class Trainable(nn.Module):
    """Maps images [N, channels, H, W] to `Outputs`; shares all weights and modules with the given network.

    With `opened` it gives what a model with an open head gives. Where a model has two heads, the one-to-one head does not train what is before it
    (https://arxiv.org/abs/2405.14458): it reads the maps without their gradients.
    """

    def __init__(self, network: GraphModule, *, opened: bool = False) -> None:
        super().__init__()
        self.graph = graph_in(network).opened() if opened else graph_in(network)
        values = training_values(self.graph)
        both = len(self.graph.heads) > 1
        nodes = self.graph.needed(*values)
        made = assemble(
            self.graph,
            network,
            values,
            nodes,
            several=True,
            between=_detached(self.graph) if both else None,
        )
        self.network = made.train(network.training)

    def forward(self, images: Tensor) -> Outputs:
        """Run the model without its decoding."""
        return outputs(self.graph, self.network(images))


def training_values(graph: Graph) -> tuple[str, ...]:
    """The values that `outputs` sorts: features, then what every head gives, or the output of an open one."""
    head = graph.head
    if isinstance(head, OpenHead):
        return (*features(graph), graph.output)
    if isinstance(head, Classification):
        return (*head.features, head.logits)
    made = [value for branch in head.branches.values() for value in _logits(branch)]
    return (*features(graph), *made, *filter(None, [head.prototypes]))


def _logits(branch: Branch) -> tuple[str, ...]:
    """The values of `Logits`."""
    return (*branch.boxes, *branch.scores, *branch.extras, *filter(None, [branch.decoded]))


def outputs(graph: Graph, values: Sequence[Tensor]) -> Outputs:
    """Sort what a module gives for `training_values`."""
    head = graph.head
    if isinstance(head, OpenHead):
        return Outputs(list(values[:-1]), {}, values[-1])
    if isinstance(head, Classification):
        return Outputs(list(values[:-1]), {}, classes=values[-1])
    rest, levels = iter(values), range(len(head.strides))
    maps = [next(rest) for _ in levels]
    heads = {
        kind: Logits(
            [next(rest) for _ in levels],
            [next(rest) for _ in levels],
            [next(rest) for _ in branch.extras],
            next(rest) if branch.decoded else None,
        )
        for kind, branch in head.branches.items()
    }
    return Outputs(maps, heads, prototypes=next(rest) if head.prototypes else None)


def features(graph: Graph) -> tuple[str, ...]:
    """The maps that the head reads; of an open head the last of every size, from a stride of 8, that several nodes read.

    A model hands its results on through these. There may be none.
    """
    if not isinstance(graph.head, OpenHead):
        return graph.head.features
    height, width = graph.reference
    shapes, needed = graph.shapes(height, width), graph.needed()
    times = Counter(value for node in needed for value in dict.fromkeys(node.inputs))
    found: dict[int, str] = {}
    for value in (value for node in needed for value in node.outputs):
        shape = shapes[value]
        stride = height // shape[2] if len(shape) == _MAP else 0
        divides = stride >= _FINEST and (shape[2] * stride, shape[3] * stride) == (height, width)
        if divides and times[value] > 1:
            found[stride] = value
    return tuple(found[stride] for stride in sorted(found))


class _detached:  # noqa: N801 - a function with a memory
    """Takes the gradients out of what enters the one-to-one head, once per value."""

    def __init__(self, graph: Graph) -> None:
        self._inside = {
            value for node in graph.nodes if node.branch == "one-to-one" for value in node.outputs
        }
        self._made: dict[str, fx.Node] = {}

    def __call__(self, program: fx.Graph, node: AnyNode, value: str, it: fx.Node) -> fx.Node:
        if node.branch != "one-to-one" or value in self._inside:
            return it
        if value not in self._made:
            self._made[value] = program.call_method("detach", (it,))
        return self._made[value]
