"""Cuts a model before it selects: before non-maximum suppression, or before the best rows are taken.

What is left gives all anchors, so every target can do the rest in its own way.
"""

from __future__ import annotations

from onnx import NodeProto

from yolodeploy_onnx.model import Model, ancestors

_SELECTING = ("NonMaxSuppression", "TopK")
_AXES = 3


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


def candidates(model: Model) -> list[str]:
    """The values [1, C, A] or [1, A, C] that all outputs are made from, the last first.

    Nothing that the outputs depend on goes past such a value, so the model may end in it.
    """
    needed = ancestors(model, model.outputs)
    nodes = [node for node in model.nodes if not needed.isdisjoint(node.output)]
    last = {name: place for place, node in enumerate(nodes) for name in node.input}
    last.update(dict.fromkeys(model.outputs, len(nodes)))
    made = {name: place for place, node in enumerate(nodes) for name in node.output}
    made[model.image] = -1
    open_values: set[str] = set()
    found = []
    births: dict[int, list[str]] = {}
    for name, place in made.items():
        if name in needed:
            births.setdefault(place, []).append(name)
    open_values.update(births.get(-1, ()))
    for place in range(len(nodes)):
        open_values = {name for name in open_values if last.get(name, -1) > place}
        open_values.update(name for name in births.get(place, ()) if last.get(name, -1) > place)
        if len(open_values) == 1:
            (only,) = open_values
            if len(model.shape(only)) == _AXES:
                found.append(only)
    return list(dict.fromkeys(reversed(found)))
