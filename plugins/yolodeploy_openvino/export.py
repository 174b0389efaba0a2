"""The step `export`: "yolo" -> OpenVINO IR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolodeploy.backend import Artifact, Context, Params
from yolodeploy.compress import carry
from yolodeploy_openvino.toolchain import OTHER_VERSION, failing, openvino, save_model

if TYPE_CHECKING:
    from yolodeploy_openvino.params import Export


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.xml` and `model.bin` for `batch` images of `context.imgsz`; raises StepFailed.

    The learned ranges of the model, if it has any, are copied.
    """
    from yolodeploy_torch.model import traced

    options = cast("Export", params)
    context.progress(0.0, "tracing")
    script = traced(artifact.path, context.imgsz, options.batch)
    context.progress(0.5, "converting")
    with failing("convert this model", OTHER_VERSION):
        model = openvino().convert_model(script, input=[options.batch, *context.imgsz.batch[1:]])
        _name_ports(model)
        save_model(model, context.work, half=options.precision == "fp16")
    carry(artifact.path, context.work)
    return context.work


def _name_ports(model: Any) -> None:
    for port, name in ((model.input(0), "images"), (model.output(0), "output0")):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
    model.set_friendly_name("yolo")
