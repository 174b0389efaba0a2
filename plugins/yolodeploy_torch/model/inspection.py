"""What a model in the artifact format "yolo" is, and what its parts hold and cost. Weights are not read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from yolodeploy.backend import Inspected, ModelInfo, PartCount
from yolodeploy.compress import PARTS, Part
from yolodeploy.errors import StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Graph, Unsupported
from yolodeploy_torch.model.artifact import GRAPH_FILE, WEIGHTS_FILE, read_graph
from yolodeploy_torch.model.flops import macs, node_macs
from yolodeploy_torch.model.merging import merged_graph
from yolodeploy_torch.model.parts import layers

_USUAL = 640  # pixels; the size that FLOPs are counted for if the training size is not known
_USUAL_OF_CLASSIFIERS = 224
_FORMS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64"}


def inspect_artifact(folder: Path) -> Inspected:
    """What the model in a folder is; raises StepFailed if it is damaged."""
    graph, info, file = read_graph(folder), ModelInfo.read(folder), folder / WEIGHTS_FILE
    try:
        with safe_open(file, "np") as source:
            kept = {name: source.get_slice(name) for name in source.keys()}  # noqa: SIM118 - no dict
            graph.check_tensors({name: tuple(each.get_shape()) for name, each in kept.items()})
            forms = {name: _FORMS.get(each.get_dtype(), "other") for name, each in kept.items()}
    except (OSError, SafetensorError, Unsupported) as error:
        raise StepFailed(f"{file} is damaged: {error}. Build it again.") from error
    imgsz = counted_size(info)
    return Inspected(
        "model as loaded or trained, not exported",
        "yolo",
        info,
        parameters=info.parameters,
        macs=total_macs(graph, imgsz),
        imgsz=imgsz,
        parts=part_counts(graph, imgsz, forms),
        stored={"fp32": file.stat().st_size},
    )


def is_artifact(path: Path) -> bool:
    """Whether a folder holds such a model."""
    return (path / GRAPH_FILE).is_file()


def counted_size(info: ModelInfo) -> ImageShape:
    """The size of image that operations are counted for: the training size; if it is not known 640 px, of a classifier 224."""
    usual = _USUAL_OF_CLASSIFIERS if info.task == "classify" else _USUAL
    sides = info.imgsz or usual
    height, width = sides if isinstance(sides, tuple) else (sides, sides)
    step = max(info.strides)
    return ImageShape(_up(height, step), _up(width, step), info.channels)


def _up(side: int, step: int) -> int:
    return math.ceil(side / step) * step


def total_macs(graph: Graph, imgsz: ImageShape) -> int:
    """Multiply-accumulates for one image, as every report has them: parallel convolutions count as one."""
    return macs(merged_graph(graph), imgsz.height, imgsz.width)


def part_counts(graph: Graph, imgsz: ImageShape, forms: Mapping[str, str]) -> tuple[PartCount, ...]:
    """What each part that the output depends on holds and costs; `forms` are those of the tensors, by name."""
    merged = merged_graph(graph)
    parameters, cost = Counter[Part](), Counter[Part]()
    for node in graph.needed():
        sizes = (
            math.prod(shape)
            for key, shape in node.weights().items()
            if not key.startswith("running_")
        )
        parameters[node.part or "backbone"] += sum(sizes)
    shapes = merged.shapes(imgsz.height, imgsz.width)
    for node in merged.needed():
        given = [shapes[value] for value in node.inputs]
        cost[node.part or "backbone"] += node_macs(node, given, shapes[node.outputs[0]])
    stored = dict[Part, Counter[str]]()
    for node in layers(graph):
        part: Part = node.part or "backbone"
        stored.setdefault(part, Counter())[forms[f"{node.name}.weight"]] += 1
    return tuple(
        PartCount(part, stored[part].total(), parameters[part], cost[part], stored[part])
        for part in PARTS
        if part in stored
    )
