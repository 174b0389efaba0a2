"""The step `export`: "yolo" -> OpenVINO IR."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from yolodeploy.backend import Artifact, Context, Export, Params
from yolodeploy.compress import carry
from yolodeploy_openvino.toolchain import OTHER_VERSION, failing, openvino, save_model


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.xml` and `model.bin` for one image of `context.imgsz`; raises StepFailed.

    The learned ranges of the model, if it has any, are copied.
    """
    from yolodeploy_torch.model import traced

    context.progress(0.0, "tracing")
    script = traced(artifact.path, context.imgsz)
    context.progress(0.5, "converting")
    with failing("convert this model", OTHER_VERSION):
        model = openvino().convert_model(script, input=list(context.imgsz.batch))
        _name_ports(model)
        save_model(model, context.work, half=cast("Export", params).precision == "fp16")
    carry(artifact.path, context.work)
    return context.work


def _name_ports(model: Any) -> None:
    for port, name in ((model.input(0), "images"), (model.output(0), "output0")):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
    model.set_friendly_name("yolo")
