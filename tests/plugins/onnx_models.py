"""Small ONNX files as other projects export them, with random weights, and what boxes and scores they mean.

Each builder writes a file and gives a `Model`: the file, its layout, what it does to pixels, and a reference that
runs the file itself in ONNX Runtime and decodes its outputs in numpy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from families import calibrate, randomise, smooth
from onnx import TensorProto, helper
from onnx_networks import (
    ANCHORS,
    STRIDES,
    AnchorHead,
    Body,
    Conv,
    CornerHead,
    Csp,
    Detector,
    Elan,
    Focus,
    Halve,
    Halved,
    Plain,
    Rows,
    YoloxHead,
    leaky,
)
from onnx_transformer import Transformer
from torch import nn

SIZE = (96, 160)  # height and width in px
NC = 3
NAMES = ("circle", "square", "triangle")
Arrays = list[np.ndarray[Any, Any]]
Array = np.ndarray[Any, Any]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Pixels:
    """What a file expects: (pixel * scale - mean) / std in `order`, and how an image gets the size; as in a recipe."""

    order: str = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    fit: str = "center"  # or "top-left", or "stretch"

    def __call__(self, images: Array) -> Array:
        """RGB images [N, 3, H, W] in 0..1, as the file expects them."""
        given = images[:, ::-1] if self.order == "bgr" else images
        mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (self.mean, self.std))
        return np.ascontiguousarray((given * np.float32(255 * self.scale) - mean) / std, np.float32)


@dataclass(frozen=True)
class Saved:
    """How a file is written."""

    opset: int = 17
    dynamic: bool = False
    half: str = (
        ""  # "inputs": float16 throughout; "inside": between an input and outputs in float32
    )
    external: bool = False  # weights in a file beside it
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] = SIZE
    seed: int = 0


@dataclass(frozen=True)
class Model:
    """A file, the layout of its outputs, what it expects, and how its outputs become boxes and scores.

    `layout` is as a recipe writes it, or "maps", "rows" or "nms" for what no recipe can say.
    """

    path: Path
    layout: str
    decode: Callable[[Arrays], Array]
    pixels: Pixels = Pixels()
    size: tuple[int, int] = SIZE
    nc: int = NC
    before: Model | None = (
        None  # whose outputs are the reference, where those of the file are not boxes and scores
    )

    def images(self, count: int = 2) -> Array:
        """RGB images [N, 3, H, W] in 0..1."""
        return smooth(count, *self.size).numpy()

    def reference(self, images: Array) -> Array:
        """Centres and sizes in px of the input, and scores [N, 4 + nc, A], for RGB images in 0..1.

        A file that ends in rows gives them: [N, Q, 6] of corners, score, class.
        """
        of = self.before or self
        return np.concatenate([of.decode(of.run(image[None])) for image in images])

    def run(self, images: Array) -> Arrays:
        """The outputs of the file itself."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        given = self.pixels(images)
        first = session.get_inputs()[0]
        if first.type == "tensor(float16)":
            given = given.astype(np.float16)
        return [np.asarray(each, np.float32) for each in session.run(None, {first.name: given})]


def yolox(folder: Path, decoded: bool = True, saved: Saved = Saved(), name: str = "yolox") -> Model:
    """YOLOX: BGR in 0..255, [1, A, 5 + nc]; without `decoded` offsets in cells and logarithms of sizes."""
    body = Body(Focus(8, nn.SiLU), 8, Csp, row=False)
    network = Detector(body, YoloxHead(body.widths, NC, decoded))
    pixels = Pixels("bgr", 1.0, fit="top-left")
    path = export(network, folder / f"{name}.onnx", ["output"], saved, pixels)
    if decoded:
        return _model(path, "yolov5", objectness, saved, pixels)
    return _model(path, "yolox", lambda out: objectness([_off_the_grid(out[0], saved.size)]), saved, pixels)  # fmt: skip


def yolov5(
    folder: Path,
    outputs: str = "decoded",
    focus: bool = False,
    saved: Saved = Saved(),
    name: str = "yolov5",
) -> Model:
    """YOLOv5: [1, A, 5 + nc] in px, or three raw maps [1, 3, ny, nx, 5 + nc], or both."""
    stem = Focus(8, nn.SiLU) if focus else _stem(8)
    body = Body(stem, 8, Csp, row=not focus)
    return _anchored(folder / f"{name}.onnx", body, outputs, False, saved)


def yolov7(
    folder: Path,
    tiny: bool = False,
    outputs: str = "decoded",
    saved: Saved = Saved(),
    name: str = "yolov7",
) -> Model:
    """YOLOv7: as YOLOv5, with E-ELAN, two ways down and implicit knowledge; `tiny` has LeakyReLU and none of these."""
    act: Any = leaky if tiny else nn.SiLU
    body = Body(Conv(3, 8, 3, 2, act), 8, Elan, act, None if tiny else Halve, row=False)
    return _anchored(folder / f"{name}.onnx", body, outputs, not tiny, saved)


def yolo_nas(folder: Path, saved: Saved = Saved(), name: str = "yolo-nas") -> Model:
    """YOLO-NAS: corners [1, A, 4] in px and scores [1, A, nc]."""
    body = Body(Conv(3, 8, 3, 2, nn.ReLU), 8, Plain, nn.ReLU)
    network = Detector(body, CornerHead(body.widths, NC, True))
    path = export(network, folder / f"{name}.onnx", ["boxes", "scores"], saved)
    return _model(path, "corners", lambda out: corners(out[0], out[1]), saved)


def damo_yolo(folder: Path, saved: Saved = Saved(), name: str = "damo-yolo") -> Model:
    """DAMO-YOLO: scores [1, A, nc] and corners [1, A, 4]; RGB in 0..255, stretched."""
    body = Body(Focus(8, nn.ReLU), 8, Plain, nn.ReLU, row=False)
    network = Detector(body, CornerHead(body.widths, NC, False))
    pixels = Pixels(scale=1.0, fit="stretch")
    path = export(network, folder / f"{name}.onnx", ["output", "boxes"], saved, pixels)
    return _model(path, "corners", lambda out: corners(out[1], out[0]), saved, pixels)


def rt_detr(
    folder: Path,
    logits: bool = True,
    sampled: bool = True,
    imagenet: bool = False,
    saved: Saved = Saved(),
    name: str = "rt-detr",
) -> Model:
    """RT-DETR and D-FINE: logits (or scores) [1, Q, nc] and boxes [1, Q, 4] as shares; RF-DETR with `imagenet`."""
    network = Transformer(
        Body(_stem(8, nn.ReLU), 8, Csp, nn.ReLU), NC, sampled=sampled, logits=logits
    )
    pixels = Pixels(fit="stretch", mean=IMAGENET[0], std=IMAGENET[1]) if imagenet else Pixels(fit="stretch")  # fmt: skip
    path = export(network, folder / f"{name}.onnx", ["pred_boxes", "pred_logits"], saved, pixels)

    def decode(out: Arrays) -> Array:
        height, width = saved.size
        boxes = out[0] * np.array([width, height, width, height], np.float32)
        return common(boxes, sigmoid(out[1]) if logits else out[1])

    return _model(path, "detr", decode, saved, pixels)


def end_to_end(
    folder: Path, count: int = 20, saved: Saved = Saved(), name: str = "end-to-end"
) -> Model:
    """The best rows [1, Q, 6]: corners in px, score, class."""
    body = Body(_stem(8), 8)
    network = Rows(Detector(body, CornerHead(body.widths, NC, True)), count)
    path = export(network, folder / f"{name}.onnx", ["output0"], saved)
    return _model(path, "rows", lambda out: out[0], saved)


def with_nms(folder: Path, saved: Saved = Saved(), name: str = "nms") -> Model:
    """Ends in NonMaxSuppression: [n, 3] of batch, class, anchor. The reference is what stands before it."""
    before = yolo_nas(folder, saved, f"{name}-before")
    model = onnx.load(before.path)
    graph = model.graph
    constants = {
        "most": np.array([20], np.int64),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([0.1], np.float32),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    graph.node.append(
        helper.make_node("Transpose", ["scores"], ["by_class"], "by_class", perm=[0, 2, 1])
    )
    graph.node.append(
        helper.make_node(
            "NonMaxSuppression", ["boxes", "by_class", *constants], ["selected"], "suppress"
        )
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("selected", TensorProto.INT64, ["n", 3]))
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return Model(path, "nms", before.decode, before=before)


def export(
    network: nn.Module,
    path: Path,
    outputs: list[str],
    saved: Saved,
    pixels: Pixels = Pixels(),
) -> Path:
    """Give a network random weights and statistics from images, and write it."""
    torch.set_num_threads(1)
    torch.manual_seed(saved.seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5)
        elif name.endswith("bias"):  # made before the seed was set
            nn.init.uniform_(parameter, -0.3, 0.3)
    randomise(network)
    for name, parameter in network.named_parameters():
        if ".last." in name:
            parameter.data *= 0.2  # sizes are exponentials or squares of what comes last
    height, width = saved.size
    pictures = smooth(4, 2 * height, 2 * width)
    both = torch.cat((pictures, torch.rand_like(pictures)))  # readers try models on noise
    calibrate(network, torch.from_numpy(pixels(both.numpy())))
    images = torch.from_numpy(pixels(smooth(1, height, width).numpy()))
    if saved.half:
        network = network.half() if saved.half == "inputs" else Halved(network)
        images = images.half() if saved.half == "inputs" else images
    if len(found := _flat(network(images))) != len(outputs):
        outputs = [*outputs, *(f"raw{number}" for number in range(len(found) - len(outputs)))]
    axes = {"images": {0: "batch", 2: "height", 3: "width"}} if saved.dynamic else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (images,), path, dynamo=False, opset_version=saved.opset,
            input_names=["images"], output_names=outputs, dynamic_axes=axes,
        )  # fmt: skip
    if saved.metadata or saved.external:
        model = onnx.load(path)
        helper.set_model_props(model, dict(saved.metadata))
        beside = f"{path.name}.data"
        onnx.save(model, path, save_as_external_data=saved.external, location=beside, size_threshold=0)  # fmt: skip
    return path


def _model(
    path: Path,
    layout: str,
    decode: Callable[[Arrays], Array],
    saved: Saved,
    pixels: Pixels = Pixels(),
) -> Model:
    model = Model(path, layout, decode, pixels, saved.size)
    return replace(model, before=replace(model, path=widened(path))) if saved.half else model


def widened(path: Path) -> Path:
    """Write a float16 file's weights into a file that computes in float32: what 16 bits cost is no fault of a reader."""
    model = onnx.load(path)
    held = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in [*model.graph.initializer, *held]:
        if tensor.data_type == TensorProto.FLOAT16:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    for node in model.graph.node:
        for a in node.attribute:
            if node.op_type == "Cast" and a.i == TensorProto.FLOAT16:
                a.i = TensorProto.FLOAT
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, beside := path.with_stem(f"{path.stem}-wide"))
    return beside


def common(boxes: Array, scores: Array) -> Array:
    """[N, 4 + nc, A] from centres and sizes [N, A, 4] and scores [N, A, nc]."""
    return np.concatenate((boxes, scores), 2).transpose(0, 2, 1)


def corners(boxes: Array, scores: Array) -> Array:
    """[N, 4 + nc, A] from corners and scores."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return common(np.concatenate(((low + high) / 2, high - low), 2), scores)


def objectness(out: Arrays) -> Array:
    """[N, 4 + nc, A] from [N, A, 5 + nc], where classes are told given that there is an object."""
    return common(out[0][..., :4], out[0][..., 5:] * out[0][..., 4:5])


def sigmoid(values: Array) -> Array:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))), np.float32)


def raw_maps(maps: Arrays) -> Array:
    """[N, A, 5 + nc] from YOLOv5's raw maps [N, 3, ny, nx, 5 + nc]."""
    found = []
    for values, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True):
        n, _, height, width, channels = values.shape
        cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
        y = sigmoid(values)
        xy = (y[..., :2] * 2 - 0.5 + cells) * stride
        wh = (y[..., 2:4] * 2) ** 2 * np.array(anchors).reshape(1, 3, 1, 1, 2)
        found.append(np.concatenate((xy, wh, y[..., 4:]), -1).reshape(n, -1, channels))
    return np.concatenate(found, 1).astype(np.float32)


def _off_the_grid(values: Array, size: tuple[int, int]) -> Array:
    cells, steps = [], []
    for stride in STRIDES:
        height, width = size[0] // stride, size[1] // stride
        cells.append(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2))
        steps.append(np.full((height * width, 1), stride))
    where, step = np.concatenate(cells), np.concatenate(steps)
    xy, wh = (values[..., :2] + where) * step, np.exp(values[..., 2:4]) * step
    return np.concatenate((xy, wh, values[..., 4:]), -1).astype(np.float32)


def _stem(width: int, act: Any = nn.SiLU) -> nn.Module:
    conv = nn.Conv2d(3, width, 6, 2, 2, bias=False)  # YOLOv5 6.0 and later
    return nn.Sequential(conv, nn.BatchNorm2d(width), act())


def _anchored(path: Path, body: Body, outputs: str, implicit: bool, saved: Saved) -> Model:
    network = Detector(body, AnchorHead(body.widths, NC, outputs, implicit))
    names = [] if outputs == "raw" else ["output0"]
    export(network, path, names, saved)
    decode = (lambda out: objectness([raw_maps(out)])) if outputs == "raw" else objectness
    return _model(path, "yolov5" if names else "maps", decode, saved)


def _flat(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)
