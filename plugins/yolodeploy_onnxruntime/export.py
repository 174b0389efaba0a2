"""The step `export`: "yolo" -> one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx

from yolodeploy.backend import ROWS, Artifact, Context, Params
from yolodeploy.compress import carry, write_layers
from yolodeploy_onnxruntime.lowering import Writer
from yolodeploy_onnxruntime.model_file import IMAGES, IR_VERSIONS, OUTPUT, Array, half, write_model

if TYPE_CHECKING:
    from yolodeploy_onnxruntime.params import Export
    from yolodeploy_torch.graph import Graph

_REDUCES_BY_INPUT = 18  # the version of the operators in which ReduceMax takes its axes as an input


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.onnx` and `layers.json` for `batch` images of `context.imgsz`.

    Operators with weights bear the names of the checkpoint. The learned ranges of the model, if it has
    any, are copied. Raises PlanRefused for a size that is no multiple of the coarsest stride.
    """
    from yolodeploy_torch.model import layer_parts

    options = cast("Export", params)
    context.progress(0.0, "writing ONNX")
    model = _model(artifact.path, options, context)
    parts = layer_parts(artifact.path)
    if options.precision == "fp16":
        half(model, (f"{name}.weight" for name in parts))
    write_model(model, context.work)
    write_layers(context.work, parts)
    carry(artifact.path, context.work)
    return context.work


def _model(folder: Path, options: Export, context: Context) -> onnx.ModelProto:
    from yolodeploy_torch.graph import IMAGE, graph_in
    from yolodeploy_torch.model import exportable

    network: Any = exportable(folder, context.imgsz, options.batch, rows=True).network
    graph = graph_in(network)
    shapes = graph.shapes(context.imgsz.height, context.imgsz.width, options.batch)
    renamed = {IMAGE: IMAGES}
    rows = graph.selected == "one-to-one"
    if not rows:
        renamed[graph.output] = OUTPUT

    def weights(name: str) -> Array:
        path, _, last = name.rpartition(".")
        return np.asarray(getattr(network.get_submodule(path), last).detach().numpy())

    writer = Writer(shapes, weights, renamed)
    values = (graph.branch.corners, graph.branch.probabilities) if rows else (graph.output,)
    for node in graph.needed(*values):
        writer.lower(node)
    end = _add_rows(writer, graph, options) if rows else shapes[graph.output]
    return writer.graph(shapes[IMAGE], end, options.opset, IR_VERSIONS[options.opset])


def _add_rows(writer: Writer, graph: Graph, options: Export) -> tuple[int, int, int]:
    """The best pairs of a box and a class as rows, as `yolodeploy_torch.model.top_k` computes them."""
    corners, scores = graph.branch.corners, graph.branch.probabilities
    batch, classes, anchors = writer.shapes[scores]
    count = min(ROWS, anchors)
    add, keep = writer.add, writer.keep
    k = keep("rows.k", [count], np.int64)
    number = keep("rows.classes", classes, np.int64)
    last = keep("rows.last", [2], np.int64)
    if options.opset < _REDUCES_BY_INPUT:
        best = add("ReduceMax", [scores], "rows.best", axes=[1], keepdims=0)
    else:
        axes = keep("rows.axes", [1], np.int64)
        best = add("ReduceMax", [scores, axes], "rows.best", keepdims=0)
    anchor = _top(writer, best, k, "rows.anchors")[1]
    shared = add("Unsqueeze", [anchor, last], "rows.shared")
    wide = add("Expand", [shared, keep("rows.wide", [1, 1, classes], np.int64)], "rows.of_scores")
    by_anchor = add("Transpose", [scores], "rows.scores", perm=[0, 2, 1])
    pairs = add("GatherElements", [by_anchor, wide], "rows.pairs", axis=1)
    flat = add(
        "Reshape",
        [pairs, keep("rows.flat", [0, count * classes], np.int64)],
        "rows.flat_pairs",
    )
    score, pair = _top(writer, flat, k, "rows.chosen")
    which = add("Div", [pair, number], "rows.which")
    chosen = add("GatherElements", [anchor, which], "rows.chosen_anchors", axis=1)
    single = add("Unsqueeze", [chosen, last], "rows.single")
    four = add("Expand", [single, keep("rows.four", [1, 1, 4], np.int64)], "rows.of_boxes")
    by_box = add("Transpose", [corners], "rows.corners", perm=[0, 2, 1])
    boxes = add("GatherElements", [by_box, four], "rows.boxes", axis=1)
    kind = add("Cast", [add("Mod", [pair, number], "rows.class")], "rows.kind", to=1)
    ends = [add("Unsqueeze", [value, last], f"{value}.column") for value in (score, kind)]
    add("Concat", [boxes, *ends], OUTPUT, axis=2)
    return batch, count, 6


def _top(writer: Writer, value: str, k: str, name: str) -> tuple[str, str]:
    """The k greatest numbers of each row, and where they stand."""
    found = f"{name}.values", f"{name}.indices"
    node = onnx.helper.make_node("TopK", [writer.named(value), k], list(found), axis=1)
    writer.nodes.append(node)
    return found
