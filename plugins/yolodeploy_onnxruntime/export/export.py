"""The step `export`: "yolo" -> one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx

from yolodeploy.backend import Artifact, Context, Params
from yolodeploy.compress import Part, carry, write_layers
from yolodeploy_onnxruntime.model_file import (
    IMAGES,
    IR_VERSIONS,
    MODEL_FILE,
    OUTPUTS,
    Array,
    half,
    write_model,
)

if TYPE_CHECKING:
    from yolodeploy_onnxruntime.params import Export


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.onnx` and `layers.json` for `batch` images of `context.imgsz`.

    Operators with weights bear the names of the checkpoint. The learned ranges of the model, if it has
    any, are copied. A model of which only the outputs are known is an ONNX file, and is passed on.
    Raises PlanRefused for a size that does not fit the model, and for what such a file cannot be given.
    """
    from yolodeploy_onnxruntime.export.passing import passed_on

    options = cast("Export", params)
    context.progress(0.0, "writing ONNX")
    if (artifact.path / MODEL_FILE).is_file():
        model, parts, weights = passed_on(artifact.path, options, context.imgsz)
    else:
        model, parts = _written(artifact.path, options, context)
        weights = [f"{name}.weight" for name in parts]
        carry(artifact.path, context.work)
    if options.precision == "fp16":
        half(model, weights)
    write_model(model, context.work)
    write_layers(context.work, parts)
    return context.work


def _written(
    folder: Path, options: Export, context: Context
) -> tuple[onnx.ModelProto, dict[str, Part]]:
    """The model as ONNX, and the part of every layer."""
    from yolodeploy_onnxruntime.export import rows
    from yolodeploy_onnxruntime.export.lowering import Writer
    from yolodeploy_torch.graph import IMAGE, graph_in
    from yolodeploy_torch.model import exportable, layer_parts

    network: Any = exportable(folder, context.imgsz, options.batch, rows=True).network
    graph = graph_in(network)
    shapes = graph.shapes(context.imgsz.height, context.imgsz.width, options.batch)
    selects = graph.selected == "one-to-one"
    main, *others = graph.outputs.values()
    values = (main, *others)
    ends = dict(zip(values, OUTPUTS[: len(values)], strict=True))

    def weights(name: str) -> Array:
        path, _, last = name.rpartition(".")
        return np.asarray(getattr(network.get_submodule(path), last).detach().numpy())

    renamed = {value: name for value, name in ends.items() if value != main or not selects}
    writer = Writer(shapes, weights, {IMAGE: IMAGES} | renamed)
    for node in graph.needed(*(rows.inputs(graph) if selects else (main,)), *others):
        writer.lower(node)
    made = {name: shapes[value] for value, name in ends.items()}
    if selects:
        made[OUTPUTS[0]] = rows.add_rows(writer, graph, options.opset)
    model = writer.graph(shapes[IMAGE], made, options.opset, IR_VERSIONS[options.opset])
    return model, layer_parts(folder)
