"""Merges primitives that compute the same, such as two equal slices of an image: converters do it too, and then miss one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from yolodeploy_torch.graph import AnyNode


def merged(
    nodes: Sequence[AnyNode], state: Mapping[str, Tensor], output: str
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
        first = node if output in node.outputs else seen.setdefault(known, node)
        if first is node:
            kept.append(node)
        else:
            same.update(zip(node.outputs, first.outputs, strict=True))
    return tuple(kept)
