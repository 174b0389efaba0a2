"""`labels.txt` and `contract.json`: what an app reads beside the artifact.

Both follow from the plan, the weights and the artifact alone, so the lock file holds their digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from yolodeploy.info import ModelInfo
from yolodeploy.manifest import CONTRACT, LABELS, encoded
from yolodeploy.plan import Plan
from yolodeploy.rules import APP, FILL


def app_files(plan: Plan, info: ModelInfo, interface: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name; `interface` is what the backend says of the artifact."""
    labels = "".join(f"{name}\n" for name in info.names)
    return {CONTRACT: encoded(_contract(plan, info, interface)), LABELS: labels.encode()}


def _contract(plan: Plan, info: ModelInfo, interface: Mapping[str, Any]) -> dict[str, Any]:
    """What an app has to do before and after it runs the artifact."""
    imgsz = plan.file.recipe.model.imgsz
    return {
        **interface,
        "task": info.task,
        "classes": len(info.names),
        "strides": list(info.strides),
        "input_size": [imgsz, imgsz],
        "colour_order": "RGB",
        "letterbox": {
            "rule": (
                "s = input_size / max(width, height); resize to round(width * s) x round(height * s), "
                "bilinear, round half to even; place at left = (input_size - new width) // 2, top likewise; fill the rest"
            ),
            "fill": [FILL, FILL, FILL],
            "inverse": "x = (x_letterboxed - left) / s; y = (y_letterboxed - top) / s",
        },
        "thresholds": asdict(APP.with_thresholds(interface["confidence"], interface["iou"])),
        "golden": "golden/detections.json",
    }
