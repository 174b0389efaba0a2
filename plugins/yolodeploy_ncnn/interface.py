"""How an app feeds a network and reads it, as its two files say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from yolodeploy.backend import Interface, Tensor
from yolodeploy.system import GREY
from yolodeploy_ncnn.decode import made_for_gpu
from yolodeploy_ncnn.layers import MATRIX
from yolodeploy_ncnn.param_file import PARAM_FILE

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact
    from yolodeploy.compress import Part
    from yolodeploy_ncnn.param_file import Graph

_BOXES = "centre x, centre y, width, height in pixels, then a score per class"
_BEHIND = {
    "detect": "",
    "segment": ", then the coefficients of the mask",
    "obb": ", then the angle in radians",
}
_PROTOTYPES = "prototypes of masks: a mask is their sum, weighted with the coefficients of a box"
_SCALE = "Scale with ncnn::Mat::substract_mean_normalize(0, {{{factors}}}). "
_CHOICE = (
    "The boxes are decoded, in fp32; choosing among them is the app's: non-maximum suppression, or "
    "the best pairs of an anchor and a class from a one-to-one head. "
)
_SCORES = "The probabilities are computed in fp32. "
_ARITHMETIC = (
    "On Arm ncnn computes the convolutions in fp16 unless the app sets opt.use_fp16_arithmetic = "
    "false or the model was exported with `arithmetic: fp32`."
)
_ON_GPU = (
    "Made for the GPU: build ncnn with NCNN_VULKAN, call ncnn::create_gpu_instance() once, and set "
    "opt.use_vulkan_compute = true before load_param. Leave opt.use_fp16_packed, opt.use_fp16_storage and "
    "opt.use_fp16_arithmetic at true, ncnn's default, with which the model was measured; ncnn turns off what the GPU lacks. "
    "Layers with `31=19` decode on the CPU in fp32, which takes ncnn 20240410 or newer. Without a Vulkan driver ncnn "
    "runs the same files on the CPU."
)
_FLAT_AXES = 2  # of a Reshape: one more, and it takes the numbers of a keypoint apart


def describe(artifact: Artifact) -> Interface:
    """Describe how an app feeds the network and reads its outputs, whose shapes ncnn itself says."""
    from yolodeploy_ncnn.model import read
    from yolodeploy_ncnn.runtime import output_shapes

    loaded = read(artifact)
    graph = loaded.graph
    pixels = graph.producers[graph.input]
    channels, height, width = (pixels.number(key) for key in (2, 1, 0))
    factors = ", ".join(["1/255.f"] * channels)
    image = (channels, height, width)
    shapes = output_shapes(artifact.path, image)
    task = task_in(graph, loaded.parts)
    meanings = (_meaning(task, graph, loaded.parts), _PROTOTYPES)[: len(shapes)]
    described = zip(graph.outputs, shapes, meanings, strict=True)
    return Interface(
        entry=PARAM_FILE,
        inputs=(Tensor(graph.input, image, "float32", _pixels(channels, task)),),
        outputs=tuple(Tensor(name, shape, "float32", text) for name, shape, text in described),
        scale=1 / 255,
        note=_SCALE.format(factors=factors)
        + (_SCORES if task == "classify" else _CHOICE)
        + (_ON_GPU if made_for_gpu(graph) else _ARITHMETIC),
        layers=loaded.forms(),
    )


def task_in(graph: Graph, parts: Mapping[str, Part]) -> str:
    """What a network does: the parts of its layers tell, and the matrix of a classifier."""
    own = {"head.proto": "segment", "head.keypoints": "pose", "head.angle": "obb"}
    for part, task in own.items():
        if part in parts.values():
            return task
    scores = [layer for layer in graph.layers if layer.type == MATRIX]
    return "classify" if any(parts.get(la.name) == "head.last" for la in scores) else "detect"


def _pixels(channels: int, task: str) -> str:
    colours = "grey" if channels == GREY else "RGB"
    fitted = "scaled and cropped" if task == "classify" else "letterboxed"
    return f"{colours} pixels of the {fitted} image, multiplied with the scale"


def _meaning(task: str, graph: Graph, parts: Mapping[str, Part]) -> str:
    """What the main output holds."""
    if task == "classify":
        return "a probability per class; they sum to 1"
    if task == "pose":
        visible = ", visibility in 0..1" if _keypoint_numbers(graph, parts) > _FLAT_AXES else ""
        return f"{_BOXES}, then per keypoint x, y in pixels{visible}"
    return _BOXES + _BEHIND[task]


def _keypoint_numbers(graph: Graph, parts: Mapping[str, Part]) -> int:
    """How many numbers a keypoint has: a layer takes the joined maps apart, [anchors, numbers, keypoints]."""
    for layer in graph.layers:
        if layer.type == "Reshape" and _FLAT_AXES in layer.params:
            source = layer
            while source.type in ("Concat", "Dropout", "Reshape"):
                source = graph.producers[source.inputs[0]]
            if parts.get(source.name) == "head.keypoints":
                return layer.number(1)
    return _FLAT_AXES
