"""The step `export`: "yolo" -> OpenVINO IR."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import StepFailed
from yolodeploy.transforms import Export
from yolodeploy_openvino.toolchain import first_line, openvino, version
from yolodeploy_torch.export import traced
from yolodeploy_torch.ranges import carry

MODEL_FILE = "model.xml"


def export(artifact: Artifact, params: Export, context: Context) -> Path:
    """Write `model.xml` and `model.bin` for one image of `context.imgsz`; raises StepFailed.

    The ranges that the model may come with are copied.
    """
    context.progress(0.0, "tracing")
    script = traced(artifact.path, context.imgsz)
    context.progress(0.5, "converting")
    ov = openvino()
    try:
        model = ov.convert_model(script, input=[1, 3, context.imgsz, context.imgsz])
        _name_ports(model)
        forget_origin(model)
        ov.save_model(model, context.work / MODEL_FILE, compress_to_fp16=params.precision == "fp16")
    except RuntimeError as error:
        raise StepFailed(
            f"OpenVINO {version(ov)} cannot convert this model: {first_line(error)}. "
            "Try the version that the recipe's lock file names."
        ) from error
    carry(artifact.path, context.work)
    return context.work


def _name_ports(model: Any) -> None:
    for port, name in ((model.input(0), "images"), (model.output(0), "output0")):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
    model.set_friendly_name("yolo")


def forget_origin(model: Any) -> None:
    """Make the bytes independent of what this process converted before.

    Nodes without a name of their own are numbered by a counter that runs on in the process.
    """
    for key in list(model.rt_info):
        del model.rt_info[key]
    for number, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
