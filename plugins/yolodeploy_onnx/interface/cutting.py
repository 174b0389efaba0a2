"""Cuts a model before it selects: before non-maximum suppression, or before the best rows are taken.

What is left gives all anchors, so every target can do the rest in its own way.
"""

from __future__ import annotations

from onnx import NodeProto

from yolodeploy_onnx.interface.model import Model, ancestors

_SELECTING = ("NonMaxSuppression", "TopK")
_AXES, _MAP, _MOST_VALUES = 3, 4, 2


def selecting(model: Model) -> NodeProto | None:
    """The first node that selects some anchors from all of them; None if there is none.

    A top-k counts only where nothing with weights follows: the queries of a transformer are chosen inside of it.
    """
    for node in model.nodes:
        if node.op_type in _SELECTING and not _computes_behind(model, node):
            return node
    return None


def _computes_behind(model: Model, node: NodeProto) -> bool:
    later = set(node.output)
    for each in model.nodes:
        if not later.isdisjoint(each.input):
            later.update(each.output)
            weighted = any(
                name in model.constants and model.constants[name].ndim > 1 for name in each.input
            )
            if each.op_type in ("Conv", "Gemm") or (each.op_type == "MatMul" and weighted):
                return True
    return False


def candidates(model: Model, before: NodeProto) -> list[tuple[str, ...]]:
    """One or two values [1, C, A] or [1, A, C], made before a node, that what it selects is made from; the last first.

    Nothing that those outputs depend on goes past such values, so the model may end in them. Maps that do not depend on
    what is selected, as prototypes of masks, are no matter of it.
    """
    chosen = _chosen(model, before)
    needed = ancestors(model, chosen)
    nodes = [node for node in model.nodes if not needed.isdisjoint(node.output)]
    last = {name: place for place, node in enumerate(nodes) for name in node.input}
    last.update(dict.fromkeys(chosen, len(nodes)))
    passing, found = {model.image}, dict[tuple[str, ...], None]()
    for place, node in enumerate(nodes):
        if node is before:
            break
        passing.update(name for name in node.output if name in needed)
        passing = {name for name in passing if last[name] > place}
        flat = all(len(model.shape(name)) == _AXES for name in passing)
        if flat and 0 < len(passing) <= _MOST_VALUES:
            found[tuple(sorted(passing))] = None
    return list(reversed(found))


def _chosen(model: Model, before: NodeProto) -> list[str]:
    """The outputs but for maps that do not depend on a node."""
    return [
        name
        for name in model.outputs
        if len(model.shape(name)) != _MAP or not ancestors(model, [name]).isdisjoint(before.output)
    ]
