"""The end of a detector that needs no non-maximum suppression, as `yolodeploy_torch.model` computes it."""

from __future__ import annotations

import numpy as np
from onnx import helper

from yolodeploy.backend import ROWS
from yolodeploy_onnxruntime.export.lowering import Writer
from yolodeploy_onnxruntime.model_file import OUTPUTS
from yolodeploy_torch.graph import Graph, OpenHead

_REDUCES_BY_INPUT = 18  # the version of the operators in which ReduceMax takes its axes as an input


def inputs(graph: Graph) -> tuple[str, ...]:
    """The values that the rows are made of."""
    return (graph.output,) if isinstance(graph.head, OpenHead) else graph.branch.rows


def add_rows(writer: Writer, graph: Graph, opset: int) -> tuple[int, int, int]:
    """Add the operators; the shape of what they give: the best pairs of a box and a class, and extras if there are any."""
    batch, numbers, anchors = writer.shapes[graph.output]
    extras = None if isinstance(graph.head, OpenHead) else graph.branch.decoded
    extra = writer.shapes[extras][1] if extras else 0
    count, classes = min(ROWS, anchors), numbers - 4 - extra
    corners, scores = _corners(writer, graph, classes)
    anchor = _best_anchors(writer, scores, count, opset)
    score, which, kind = _best_pairs(writer, scores, anchor, count, classes)
    boxes = _boxes(writer, corners, anchor, which)
    ends = [
        writer.add("Unsqueeze", [value, "rows.last"], f"{value}.column") for value in (score, kind)
    ]
    if extras:
        ends.append(_extras(writer, extras, extra))
    writer.add("Concat", [boxes, *ends], OUTPUTS[0], axis=2)
    return batch, count, 6 + extra


def _corners(writer: Writer, graph: Graph, classes: int) -> tuple[str, str]:
    """Corners and scores; of a head of which only the output is known, cut out of that."""
    if not isinstance(graph.head, OpenHead):
        return graph.branch.corners, graph.branch.probabilities
    add = writer.add
    sizes = writer.keep("rows.sizes", [2, 2, classes], np.int64)
    made = ["rows.centre", "rows.size", "rows.all_scores"]
    writer.nodes.append(
        helper.make_node("Split", [writer.named(graph.output), sizes], made, axis=1)
    )
    half = add("Mul", ["rows.size", writer.keep("rows.half", 0.5)], "rows.reach")
    first, second = (
        add(kind, ["rows.centre", half], f"rows.{kind.lower()}") for kind in ("Sub", "Add")
    )
    return add("Concat", [first, second], "rows.all_corners", axis=1), made[2]


def _best_anchors(writer: Writer, scores: str, count: int, opset: int) -> str:
    writer.keep("rows.k", [count], np.int64)
    writer.keep("rows.last", [2], np.int64)
    if opset < _REDUCES_BY_INPUT:
        best = writer.add("ReduceMax", [scores], "rows.best", axes=[1], keepdims=0)
    else:
        axes = writer.keep("rows.axes", [1], np.int64)
        best = writer.add("ReduceMax", [scores, axes], "rows.best", keepdims=0)
    return _top(writer, best, "rows.anchors")[1]


def _best_pairs(
    writer: Writer, scores: str, anchor: str, count: int, classes: int
) -> tuple[str, str, str]:
    """Scores, places among the best anchors, and classes (as floats) of the best pairs."""
    add, keep = writer.add, writer.keep
    number = keep("rows.classes", classes, np.int64)
    shared = add("Unsqueeze", [anchor, "rows.last"], "rows.shared")
    wide = add("Expand", [shared, keep("rows.wide", [1, 1, classes], np.int64)], "rows.of_scores")
    by_anchor = add("Transpose", [scores], "rows.scores", perm=[0, 2, 1])
    pairs = add("GatherElements", [by_anchor, wide], "rows.pairs", axis=1)
    flat = keep("rows.flat", [0, count * classes], np.int64)
    score, pair = _top(writer, add("Reshape", [pairs, flat], "rows.flat_pairs"), "rows.chosen")
    which = add("Div", [pair, number], "rows.which")
    kind = add("Cast", [add("Mod", [pair, number], "rows.class")], "rows.kind", to=1)
    return score, which, kind


def _boxes(writer: Writer, corners: str, anchor: str, which: str) -> str:
    add = writer.add
    chosen = add("GatherElements", [anchor, which], "rows.chosen_anchors", axis=1)
    single = add("Unsqueeze", [chosen, "rows.last"], "rows.single")
    four = add("Expand", [single, writer.keep("rows.four", [1, 1, 4], np.int64)], "rows.of_boxes")
    by_box = add("Transpose", [corners], "rows.corners", perm=[0, 2, 1])
    return add("GatherElements", [by_box, four], "rows.boxes", axis=1)


def _extras(writer: Writer, extras: str, count: int) -> str:
    """What the task adds to the anchors of the boxes."""
    add = writer.add
    wide = writer.keep("rows.extra", [1, 1, count], np.int64)
    places = add("Expand", ["rows.single", wide], "rows.of_extras")
    by_anchor = add("Transpose", [extras], "rows.by_anchor", perm=[0, 2, 1])
    return add("GatherElements", [by_anchor, places], "rows.extras", axis=1)


def _top(writer: Writer, value: str, name: str) -> tuple[str, str]:
    """The k greatest numbers of each row, and where they stand."""
    found = f"{name}.values", f"{name}.indices"
    node = helper.make_node("TopK", [writer.named(value), "rows.k"], list(found), axis=1)
    writer.nodes.append(node)
    return found
