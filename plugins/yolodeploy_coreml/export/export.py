"""The `export` step: TorchScript to an ML program in an .mlpackage."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from yolodeploy.backend import ModelInfo
from yolodeploy.compress import carry, write_layers
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.system import GREY
from yolodeploy_coreml.devices import ios_format, nms_refusal
from yolodeploy_coreml.export.indices import keep_indices
from yolodeploy_coreml.export.nms import SplitHead, with_nms
from yolodeploy_coreml.export.outputs import annotate, output_names, unique_labels
from yolodeploy_coreml.mlpackage import PACKAGE, messages, write_package
from yolodeploy_coreml.toolchain import coremltools, quiet
from yolodeploy_torch.model import anchor_count, exportable, layer_parts

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context, Params
    from yolodeploy_coreml.params import CoreMLExport


_FP16_WHOLE = 2048  # half precision holds every whole number up to this one


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Convert a model; returns a folder with `model.mlpackage`, and learned ranges if there are any.

    The image input holds 8-bit RGB or grey and is scaled inside. Plain form: `output0` [1, 4 + classes + extras,
    anchors], xywh in pixels, then scores and what the task adds; of a one-to-one head its best boxes, in rows
    [1, k, 6 + extras]. `output1` has the prototypes of masks. A classifier is one for Vision: it returns a probability
    by class name. With nms: a pipeline, see `with_nms`. Raises PlanRefused for what the model's task or head cannot
    have, and StepFailed if coremltools cannot convert the model.
    """
    options = cast("CoreMLExport", params)
    info = ModelInfo.read(artifact.path)
    if reason := nms_refusal(options, info):
        raise PlanRefused(reason)
    _refuse_one_to_one(options, context)
    context.progress(0.0, "trace")
    script = _traced(artifact.path, context, split=options.nms)
    context.progress(0.3, "convert")
    anchors = anchor_count(artifact.path, context.imgsz)
    converted = _convert(script, anchors, info, options, context)
    context.progress(0.9, "write")
    # As a message of our copy of the protobuf classes, which does not mix with coremltools' own.
    spec = messages().Model.FromString(converted.get_spec().SerializeToString())
    if options.nms:
        spec = with_nms(spec, context.names, options)
    annotate(spec, info, context.imgsz, options.precision)
    result = context.work / "artifact"
    write_package(result / PACKAGE, spec, Path(converted.weights_dir))
    write_layers(result, layer_parts(artifact.path))
    carry(artifact.path, result)
    return result


def _refuse_one_to_one(options: CoreMLExport, context: Context) -> None:
    if context.head != "one-to-one":
        return
    if options.precision == "fp16" and len(context.names) > _FP16_WHOLE:
        raise PlanRefused(
            f"the model has {len(context.names)} classes, and in fp16 the rows of a one-to-one head hold a class "
            f"index up to {_FP16_WHOLE}. Write precision: fp32, or model: {{head: one-to-many}}."
        )
    if options.nms:
        raise PlanRefused(
            "`nms: true`, but the model's one-to-one head needs no non-maximum suppression: it finds every "
            "object once. Remove `nms`, or write model: {head: one-to-many}."
        )


def _traced(source: Path, context: Context, *, split: bool) -> Any:
    module = exportable(source, context.imgsz, rows=True)
    # What reads a shape is part of another module: torch then traces it as a plain integer, while
    # `aten::Int` at the top level fails in coremltools 9 with numpy 2.4
    # (github.com/apple/coremltools/issues/2633).
    if split:
        module = SplitHead(module, context.imgsz, len(context.names))
    else:
        module = nn.Sequential(OrderedDict(detector=module))
    with warnings.catch_warnings(), torch.inference_mode():
        # PyTorch warns that TorchScript is deprecated, but coremltools reads nothing else.
        warnings.filterwarnings("ignore", message="`torch.jit", category=Warning)
        # The number of anchors becomes a constant of the trace, as it should: the size is fixed.
        warnings.filterwarnings(
            "ignore", message="Converting a tensor to a Python", category=Warning
        )
        example = torch.zeros(context.imgsz.batch)
        return torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]


def _convert(
    script: Any, anchors: int, info: ModelInfo, options: CoreMLExport, context: Context
) -> Any:
    ct = coremltools()
    # From iOS 16 the outputs of fp16 programs are fp16 by default, which Core ML's NMS does
    # not take and Swift has no plain array for; float32 outputs work on every version.
    outputs = output_names(info.task, nms=options.nms)
    precision = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}
    layout = ct.colorlayout.GRAYSCALE if context.imgsz.channels == GREY else ct.colorlayout.RGB
    image = ct.ImageType("image", shape=context.imgsz.batch, scale=1 / 255, color_layout=layout)
    passes = ct.PassPipeline.DEFAULT
    if context.head == "one-to-one":
        keep_indices(passes, anchors, len(context.names))
    labels = None
    if info.task == "classify":
        labels = ct.ClassifierConfig(unique_labels(info.names))
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ct.convert(
                script,
                inputs=[image],
                outputs=[ct.TensorType(name=name, dtype=np.float32) for name in outputs],
                minimum_deployment_target=ct.target[f"iOS{ios_format(context.target)}"],
                compute_precision=precision[options.precision],
                pass_pipeline=passes,
                skip_model_load=True,
                classifier_config=labels,
            )
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise StepFailed(f"coremltools could not convert the model: {error}") from error
