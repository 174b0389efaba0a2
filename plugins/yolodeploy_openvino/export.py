"""The step `export`: "yolo" -> OpenVINO IR; and how many images an IR takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolodeploy.backend import ONNX_FILE, Artifact, Context, Params
from yolodeploy.compress import Part, carry, read_layers, write_layers
from yolodeploy.errors import PlanRefused
from yolodeploy_openvino.graph import OUTPUTS, name_layers, name_passed_on, sources
from yolodeploy_openvino.toolchain import OTHER_VERSION, failing, openvino, save_model

if TYPE_CHECKING:
    from yolodeploy_openvino.params import Export


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.xml`, `model.bin` and `layers.json` for `batch` images of `context.imgsz`; raises StepFailed.

    Operations with weights bear the names of the checkpoint. The learned ranges of the model, if it has
    any, are copied.
    """
    options = cast("Export", params)
    convert = _passed_on if (artifact.path / ONNX_FILE).is_file() else _traced
    with failing("convert this model", OTHER_VERSION):
        model, parts = convert(artifact.path, options.batch, context)
        _name_ports(model)
        save_model(model, context.work, half=options.precision == "fp16")
    write_layers(context.work, parts)
    carry(artifact.path, context.work)
    return context.work


def _traced(folder: Path, batch: int, context: Context) -> tuple[Any, Mapping[str, Part]]:
    """The model of a graph, and the parts of its layers."""
    from yolodeploy_torch.model import layer_parts, traced

    context.progress(0.0, "tracing")
    script = traced(folder, context.imgsz, batch, rows=True)
    parts = layer_parts(folder)
    context.progress(0.5, "converting")
    model = openvino().convert_model(script, input=[batch, *context.imgsz.batch[1:]])
    name_layers(model, parts)
    return model, parts


def _passed_on(folder: Path, batch: int, context: Context) -> tuple[Any, Mapping[str, Part]]:
    """The model of an ONNX file of which only the outputs are known."""
    if batch > 1:
        raise PlanRefused(
            f"`batch: {batch}`: a file that is passed on takes one image at a time. Remove `batch`."
        )
    context.progress(0.0, "converting")
    model = openvino().convert_model(str(folder / ONNX_FILE))
    return model, name_passed_on(model, read_layers(folder))


def _name_ports(model: Any) -> None:
    for port, name in zip((model.input(0), *model.outputs), ("images", *OUTPUTS), strict=False):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
    model.set_friendly_name("yolo")


def batch_size(model: Any) -> int:
    """How many images an `openvino.Model` takes at once."""
    return int(model.input(0).shape[0])


def set_batch(model: Any, batch: int) -> None:
    """Make a model take so many images at once, in place; raises StepFailed if it does not allow that.

    A traced model has its batch in the target shapes of Reshape and Broadcast. All but the first number are sizes of
    one image and stay. The first becomes -1 for a Reshape (whatever is left) and the new batch for a Broadcast.
    """
    if batch_size(model) == batch:
        return
    ov, first = openvino(), {"Reshape": -1, "Broadcast": batch}
    given = {model.input(0).get_node().get_friendly_name()}  # and what is computed from the images
    for node in model.get_ordered_ops():
        if not given.isdisjoint(source.get_friendly_name() for source in sources(node)):
            given.add(node.get_friendly_name())
            if (kind := node.get_type_name()) in first:
                rest = list(node.get_output_shape(0))[1:]
                shape = ov.opset13.constant([first[kind], *rest], ov.Type.i64)
                shape.set_friendly_name(sources(node)[1].get_friendly_name())
                node.input(1).replace_source_output(shape.output(0))
    _, *rest = model.input(0).shape
    with failing(f"change the batch of this model to {batch}", OTHER_VERSION):
        # `Model.reshape` would first check the new shapes against the old batch.
        model.get_parameters()[0].set_partial_shape(ov.PartialShape([batch, *rest]))
        model.validate_nodes_and_infer_types()
