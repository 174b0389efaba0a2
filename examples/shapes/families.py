"""The demo models: a narrow detector of every YOLO family, and a YOLO11 for every other task.

They are built from Ultralytics' YAML files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ultralytics
from torch import nn
from ultralytics.nn.tasks import (
    ClassificationModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    SegmentationModel,
)
from ultralytics.utils import YAML

MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
CHANNELS = {"Conv", "SCDown", "C3", "C2f", "C2fCIB", "C3k2", "A2C2f"}  # first argument


@dataclass(frozen=True)
class Family:
    """What is built, and how it is trained.

    ``source`` is Ultralytics' YAML file, ``file`` the name by which the checkpoint tells its
    family and scale. ``scale`` is (depth, width, most channels before the width is applied), or
    None for that of ``file``. ``neck`` is the most channels behind the backbone, before the width
    too. ``rows`` has other arguments for some layers of the YAML, by their number: all that can be
    done where it has no scales (v9). ``decay`` is that of the moving average of the weights, which
    is the model that is saved. ``start`` is a file in models/ whose first layers, up to one that
    differs, the model begins with; without it all weights are random.
    """

    source: str
    file: str
    scale: tuple[float, float, int] | None
    epochs: int
    rate: float
    decay: float
    neck: int = 1024
    rows: Mapping[int, list[Any]] = field(default_factory=dict)
    task: str = "detect"
    start: str | None = None


WIDTHS_OF_V9: dict[int, list[Any]] = {
    3: [48],
    4: [48, 48, 24, 1],
    5: [48],
    6: [48, 48, 24, 1],
    7: [64],
    8: [64, 64, 32, 1],
    9: [64, 32],
    12: [40, 40, 20, 1],
    15: [32, 32, 16, 1],
    16: [32],
    18: [40, 40, 20, 1],
    19: [40],
    21: [48, 48, 24, 1],
}
# Half of the channels between the levels, and twice as many inside the blocks of levels 3 and 4.
WIDTHS_OF_V12: dict[int, list[Any]] = {
    5: [128, 3, 2],
    7: [128, 3, 2],
    14: [256, False, -1, False, 2.0, 1.0],
    15: [128, 3, 2],
    17: [512, False, -1, False, 2.0, 1.0],
    18: [128, 3, 2],
}
# Narrower at stride 32, and 40 channels in place of 64 where the prototypes are made.
WIDTHS_OF_V11_SEG: dict[int, list[Any]] = {20: [128, 3, 2], 22: [128, True], 23: ["nc", 32, 160]}
V5U, V10, V11 = (0.33, 0.25, 256), (0.17, 0.1875, 341), (0.5, 0.25, 256)
V12, V26 = (0.33, 0.25, 256), (0.5, 0.25, 256)
YOLO11 = "shapes-yolo11.pt"
WHOLE = (1.0, 1.0, 1024)
FAMILIES = {
    "yolov8n": Family("v8/yolov8.yaml", "yolov8n.yaml", None, 28, 1.5e-3, 0.9995),
    "yolov5u": Family("v5/yolov5.yaml", "yolov5n.yaml", V5U, 20, 2e-3, 0.999, neck=192),
    "yolov9": Family("v9/yolov9t.yaml", "yolov9t.yaml", WHOLE, 28, 2e-3, 0.999, rows=WIDTHS_OF_V9),
    "yolov10": Family("v10/yolov10n.yaml", "yolov10n.yaml", V10, 8, 2e-3, 0.999, neck=213),
    "yolo11": Family("11/yolo11.yaml", "yolo11n.yaml", V11, 16, 2e-3, 0.999),
    "yolo12": Family("12/yolo12.yaml", "yolo12n.yaml", V12, 28, 2e-3, 0.999, rows=WIDTHS_OF_V12),
    "yolo26": Family("26/yolo26.yaml", "yolo26n.yaml", V26, 16, 2e-3, 0.999),
    "yolo11-seg": Family(
        "11/yolo11-seg.yaml",
        "yolo11n-seg.yaml",
        V11,
        6,
        2e-3,
        0.999,
        neck=192,
        rows=WIDTHS_OF_V11_SEG,
        task="segment",
        start=YOLO11,
    ),
    "yolo11-pose": Family(
        "11/yolo11-pose.yaml",
        "yolo11n-pose.yaml",
        V11,
        9,
        2e-3,
        0.999,
        neck=192,
        task="pose",
        start=YOLO11,
    ),
    "yolo11-obb": Family(
        "11/yolo11-obb.yaml",
        "yolo11n-obb.yaml",
        V11,
        6,
        2e-3,
        0.999,
        neck=192,
        task="obb",
        start=YOLO11,
    ),
    "yolo11-cls": Family(
        "11/yolo11-cls.yaml",
        "yolo11n-cls.yaml",
        V11,
        4,
        1e-3,
        0.999,
        task="classify",
        start=YOLO11,
    ),
}
# 0.1875 * 341 = 64 and 0.1875 * 213 = 40 channels
CLASSES: dict[str, Callable[..., Any]] = {
    "detect": DetectionModel,
    "segment": SegmentationModel,
    "pose": PoseModel,
    "obb": OBBModel,
    "classify": ClassificationModel,
}


def build(family: Family, classes: int, keypoints: tuple[int, int] = (0, 0)) -> nn.Module:
    """Return an untrained model of a family for this number of classes.

    ``keypoints`` are how many there are and how many numbers each has, for the task pose.
    """
    make = CLASSES[family.task]
    source: Any = family.file
    if family.scale is not None:
        source = narrow(family) | {"nc": classes}
        if family.task == "pose":
            source["kpt_shape"] = list(keypoints)
    model = make(source, nc=classes, verbose=False)
    model.yaml["yaml_file"] = family.file
    return model  # type: ignore[no-any-return]


def narrow(family: Family) -> dict[str, Any]:
    """Return the family's YAML with a scale of its own, under the name that ``file`` tells."""
    table: dict[str, Any] = YAML.load(MODELS / family.source)
    assert family.scale is not None
    layers = table["backbone"] + table["head"]
    for layer in table["head"]:
        if layer[2] in CHANNELS:
            layer[3][0] = min(layer[3][0], family.neck)
    for number, arguments in family.rows.items():
        layers[number][3] = list(arguments)
    if "scales" not in table:
        return table
    name = Path(family.file).stem.partition("-")[0][-1]
    return table | {"scale": name, "scales": {name: list(family.scale)}}
