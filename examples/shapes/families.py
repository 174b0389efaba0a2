"""The demo models: one narrow model of every YOLO family, built from Ultralytics' YAML files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ultralytics
from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import YAML

MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
ONE = ("Conv", "AConv", "SCDown", "C3", "C2f", "C2fCIB", "C3k2", "A2C2f")
CHANNELS = {"RepNCSPELAN4": 3, "ELAN1": 3, "SPPELAN": 2} | dict.fromkeys(ONE, 1)  # first arguments


@dataclass(frozen=True)
class Family:
    """What is built, and how it is trained.

    ``source`` is Ultralytics' YAML file, ``file`` the name by which the checkpoint tells its
    family and scale. ``scale`` is (depth, width, most channels before the width is applied), or
    None for the scale of ``file``; v9's YAML, which has no scales, takes depth and width. ``neck``
    is the most channels behind the backbone. ``decay`` is that of the moving average of the
    weights, which is the model that is saved.
    """

    source: str
    file: str
    scale: tuple[float, float, int] | None
    epochs: int
    rate: float
    decay: float
    neck: int = 1024


V5U, V9, V10 = (0.33, 0.25, 256), (0.33, 0.5, 1024), (0.17, 0.1875, 341)
V11, V12, V26 = (0.5, 0.25, 256), (0.33, 0.25, 256), (0.5, 0.25, 256)
FAMILIES = {
    "yolov8n": Family("v8/yolov8.yaml", "yolov8n.yaml", None, 28, 1.5e-3, 0.9995),
    "yolov5u": Family("v5/yolov5.yaml", "yolov5n.yaml", V5U, 16, 2e-3, 0.999, neck=192),
    "yolov9": Family("v9/yolov9t.yaml", "yolov9t.yaml", V9, 16, 2e-3, 0.999),
    "yolov10": Family("v10/yolov10n.yaml", "yolov10n.yaml", V10, 16, 2e-3, 0.999, neck=213),
    "yolo11": Family("11/yolo11.yaml", "yolo11n.yaml", V11, 16, 2e-3, 0.999),
    "yolo12": Family("12/yolo12.yaml", "yolo12n.yaml", V12, 16, 2e-3, 0.999),
    "yolo26": Family("26/yolo26.yaml", "yolo26n.yaml", V26, 16, 2e-3, 0.999),
}
# 0.1875 * 341 = 64 and 0.1875 * 213 = 40 channels


def build(family: Family, classes: int) -> nn.Module:
    """Return an untrained model of a family for this number of classes."""
    make: Callable[..., Any] = DetectionModel
    source = family.file if family.scale is None else narrow(family) | {"nc": classes}
    model = make(source, nc=classes, verbose=False)
    model.yaml["yaml_file"] = family.file
    return model  # type: ignore[no-any-return]


def narrow(family: Family) -> dict[str, Any]:
    """Return the family's YAML with a scale of its own, under the name that ``file`` tells."""
    table: dict[str, Any] = YAML.load(MODELS / family.source)
    assert family.scale is not None
    depth, width, _ = family.scale
    for row in table["head"]:
        if row[2] in CHANNELS:
            row[3][0] = min(row[3][0], family.neck)
    if "scales" in table:
        name = Path(family.file).stem[-1]
        return table | {"scale": name, "scales": {name: list(family.scale)}}
    for row in table["backbone"] + table["head"]:
        kind, values = row[2], row[3]
        of = CHANNELS.get(kind, 0)
        row[3] = [divisible(width * value) for value in values[:of]] + values[of:]
        if kind == "RepNCSPELAN4":
            row[3][3] = max(1, round(depth * row[3][3]))
    return table


def divisible(channels: float) -> int:
    """Return the next multiple of 8."""
    return -int(-channels // 8) * 8
