"""`labels.txt` and `contract.json`: the files that an app reads beside the artifact.

Both follow from the plan, the weights and the artifact alone, so locks name their digests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from yolodeploy.backend import CONTRACT, LABELS, Interface, ModelInfo
from yolodeploy.data import FILL
from yolodeploy.plan import Plan
from yolodeploy.system import GREY, encoded
from yolodeploy.tasks.detection import APP

_SQUARE = (
    "s = input_size / max(width, height); resize to round(width * s) x round(height * s), "
    "bilinear, round half to even; place at left = (input_size - new width) // 2, top likewise; fill the rest"
)
_RECTANGLE = (
    "input_size is [H, W]; s = min(W / width, H / height); resize to round(width * s) x round(height * s), "
    "bilinear, round half to even; place at left = (W - new width) // 2, top = (H - new height) // 2; fill the rest"
)


def app_files(plan: Plan, info: ModelInfo, interface: Interface) -> dict[str, bytes]:
    """The files by name; `interface` is what the backend says about the artifact."""
    labels = "".join(f"{name}\n" for name in info.names)
    return {CONTRACT: encoded(_contract(plan, info, interface)), LABELS: labels.encode()}


def app_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The sha256 of each file by name, for the lock."""
    return {name: sha256(data).hexdigest() for name, data in files.items()}


def _contract(plan: Plan, info: ModelInfo, interface: Interface) -> dict[str, Any]:
    """What an app must do before and after it runs the artifact."""
    thresholds = APP.with_thresholds(interface.confidence, interface.iou)
    return {
        **json.loads(json.dumps(asdict(interface), sort_keys=True)),
        "task": info.task,
        "classes": len(info.names),
        "strides": list(info.strides),
        "input_size": [plan.imgsz.height, plan.imgsz.width],
        "colour_order": "GREY" if info.channels == GREY else "RGB",
        "letterbox": {
            "rule": _SQUARE if plan.imgsz.height == plan.imgsz.width else _RECTANGLE,
            "fill": [FILL] * info.channels,
            "inverse": "x = (x_letterboxed - left) / s; y = (y_letterboxed - top) / s",
        },
        "thresholds": asdict(thresholds),
        "golden": "golden/detections.json",
    }
