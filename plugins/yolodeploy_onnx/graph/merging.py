"""Merges primitives that compute the same, such as two equal slices of an image: converters do it too, and then miss one.

Slices of one value become one split, which no target has to compute several times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise

from torch import Tensor

from yolodeploy_torch.graph import AnyNode, Concat, Split


def merged(
    nodes: Sequence[AnyNode], state: Mapping[str, Tensor], outputs: Collection[str]
) -> tuple[AnyNode, ...]:
    """Keep the first of nodes that are the same but for their name; readers of the others read its values."""
    same: dict[str, str] = {}
    seen: dict[object, AnyNode] = {}
    kept = []
    for each in nodes:
        node = each.model_copy(
            update={"inputs": tuple(same.get(name, name) for name in each.inputs)}
        )
        names = [f"{node.name}.{key}" if key else node.name for key in node.weights()]
        held = tuple(state[name].numpy().tobytes() for name in names)
        known = (node.model_dump_json(exclude={"name"}), held)
        first = node if not set(outputs).isdisjoint(node.outputs) else seen.setdefault(known, node)
        if first is node:
            kept.append(node)
        else:
            same.update(zip(node.outputs, first.outputs, strict=True))
    return tuple(kept)


def with_joint_splits(nodes: Sequence[AnyNode], outputs: Collection[str]) -> tuple[AnyNode, ...]:
    """One split in place of several that cut the same value along the same axis."""
    groups: dict[tuple[str, int], list[Split]] = {}
    for node in nodes:
        if isinstance(node, Split) and set(outputs).isdisjoint(node.outputs):
            groups.setdefault((node.inputs[0], node.axis), []).append(node)
    renamed: dict[str, str] = {}
    instead: dict[str, tuple[AnyNode, ...]] = {}
    for splits in groups.values():
        if len(splits) > 1:
            first, *others = splits
            instead[first.name] = _joint(splits, renamed)
            instead.update({other.name: () for other in others})
    made = [new for node in nodes for new in instead.get(node.name, (node,))]
    return tuple(
        node.model_copy(update={"inputs": tuple(renamed.get(name, name) for name in node.inputs)})
        for node in made
    )


def _joint(splits: Sequence[Split], renamed: dict[str, str]) -> tuple[AnyNode, ...]:
    """A split at every place where one of these cuts, and what joins its pieces where they were larger."""
    edges = sorted({0}.union(*(accumulate(split.sizes) for split in splits)))
    first = splits[0]
    sizes = tuple(end - start for start, end in pairwise(edges))
    joint = first.model_copy(update={"name": f"{first.name}.joint", "sizes": sizes})
    made: list[AnyNode] = [joint]
    for split in splits:
        ends = [0, *accumulate(split.sizes)]
        for value, (start, end) in zip(split.outputs, pairwise(ends), strict=True):
            pieces = joint.outputs[edges.index(start) : edges.index(end)]
            if len(pieces) > 1:
                made.append(Concat(name=f"{value}.whole", inputs=pieces, axis=split.axis))
            renamed[value] = pieces[0] if len(pieces) == 1 else f"{value}.whole"
    return tuple(made)
