"""What a package returns for each task, and the words with which it describes itself to Xcode and apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolodeploy.backend import ModelInfo
from yolodeploy.recipe import Head
from yolodeploy.system import GREY, ImageShape
from yolodeploy_coreml.mlpackage import LABEL, LABELLED, OUTPUT, RAW_OUTPUTS, SECOND

_BOXES: Mapping[Head, str] = {
    "one-to-many": "x, y, width, height in pixels, then a score per class",
    "one-to-one": "Rows, best first: left, top, right, bottom in pixels, score, class index",
}
_CENTRED = "Rows, best first: x, y, width, height in pixels, score, class index"
_PROTOTYPES = "Prototypes of masks: a mask is their sum, weighted with the coefficients of a box"
_NOUNS = {
    "detect": "detector",
    "segment": "model for masks",
    "pose": "model for keypoints",
    "obb": "detector of rotated boxes",
    "classify": "classifier",
}
_WITH_VISIBILITY = 3  # numbers of a keypoint


def output_names(task: str, *, nms: bool) -> tuple[str, ...]:
    """The names of a network's own outputs, in the order in which it gives them."""
    if nms:
        return RAW_OUTPUTS
    return (OUTPUT, SECOND) if task == "segment" else (OUTPUT,)


def unique_labels(names: Sequence[str]) -> list[str]:
    """The class names as the keys of a dictionary: a name that an earlier class has gets its class index."""
    labels: dict[str, None] = {}
    for number, name in enumerate(names):
        label = name
        while label in labels or (label != name and label in names):
            label = f"{label} ({number})"
        labels[label] = None
    return list(labels)


def described(info: ModelInfo) -> dict[str, str]:
    """What every output holds, by name, in the words of its task."""
    if info.task == "classify":
        return {
            LABEL: "The most probable class",
            LABELLED: "A probability per class, by name; they sum to 1",
        }
    boxes = _BOXES[info.head]
    if info.task == "obb" and info.head == "one-to-one":
        boxes = _CENTRED
    return {OUTPUT: boxes + _behind(info), SECOND: _PROTOTYPES}


def _behind(info: ModelInfo) -> str:
    """What stands behind the boxes and scores."""
    if info.task == "segment":
        return ", then the coefficients of the mask"
    if info.task == "obb":
        return ", then the angle in radians"
    if info.kpt_shape:
        visible = ", visibility in 0..1" if info.kpt_shape[1] == _WITH_VISIBILITY else ""
        return f", then per keypoint x, y in pixels{visible}"
    return ""


def annotate(spec: Any, info: ModelInfo, size: ImageShape, precision: str) -> None:
    """Fill in what Xcode shows and apps read; `names`, `stride`, `imgsz`, `task`, `kpt_shape` as Ultralytics does.

    No preview type: Xcode's list has none for detectors ("Xcode Model Preview Types").
    """
    inputs = {feature.name: feature for feature in spec.description.input}
    colours = "Grey" if size.channels == GREY else "RGB"
    fitted = "scaled and cropped" if info.task == "classify" else "letterboxed"
    inputs["image"].shortDescription = f"{colours} image, {fitted} to {size}"
    texts = described(info)
    for feature in spec.description.output:
        if feature.name in texts:
            feature.shortDescription = texts[feature.name]
    metadata = spec.description.metadata
    metadata.shortDescription = f"YOLO {_NOUNS[info.task]}, {len(info.names)} classes, {size.height} x {size.width} px, {precision}"
    metadata.userDefined.update(
        {
            "classes": ",".join(info.names),
            "imgsz": str([size.height, size.width]),
            "names": str(dict(enumerate(info.names))),
            "stride": str(max(info.strides)),
            "task": info.task,
        }
    )
    if info.kpt_shape:
        metadata.userDefined["kpt_shape"] = str(list(info.kpt_shape))
