"""`labels.txt` and `contract.json`: the files that an app reads beside the artifact.

Both follow from the plan, the weights and the artifact alone, so locks name their digests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from yolodeploy.backend import CONTRACT, LABELS, Interface, Layout, ModelInfo
from yolodeploy.planning import Plan
from yolodeploy.system import GREY, ImageShape, encoded
from yolodeploy.tasks import app_rules, golden_file, postprocess_of

_SQUARE = (
    "s = input_size / max(width, height); resize to round(width * s) x round(height * s), "
    "bilinear, round half to even; place at left = (input_size - new width) // 2, top likewise; fill the rest"
)
_RECTANGLE = (
    "input_size is [H, W]; s = min(W / width, H / height); resize to round(width * s) x round(height * s), "
    "bilinear, round half to even; place at left = (W - new width) // 2, top = (H - new height) // 2; fill the rest"
)

_TOP_LEFT = "place at left = 0, top = 0; fill the rest"
_STRETCH = (
    "input_size is [H, W], or the side of a square; resize to W x H, bilinear: nothing is filled, and the shape of objects "
    "changes"
)

_CROP = (
    "input_size is [H, W]; if W * height >= H * width, resize to W x floor(W * height / width), else to "
    "floor(H * width / height) x H: the image covers the input; bilinear with antialiasing, as Pillow's BILINEAR and torchvision's "
    "antialias=True (a triangle filter as wide as a new pixel where the image gets smaller); place at "
    "left = -round((new width - W) / 2), top = -round((new height - H) / 2), round half to even, and cut off what lies outside "
    "of W x H: nothing is filled"
)
_UNCROP = "x = (x_cropped - left) * width / new width; y = (y_cropped - top) * height / new height"

_SUPPRESSED = {
    "layout": "detections",
    "nms": "artifact",
    "best": None,
    "rule": "the artifact suppresses overlaps itself, at `confidence` and `iou`; take what its outputs hold",
}


def app_files(
    plan: Plan, info: ModelInfo, interface: Interface, layout: Layout
) -> dict[str, bytes]:
    """The files by name; `interface` is what the backend says about the artifact, `layout` what that returns."""
    labels = "".join(f"{name}\n" for name in info.names)
    contract = _contract(plan, info, interface, layout)
    return {CONTRACT: encoded(contract), LABELS: labels.encode()}


def app_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The sha256 of each file by name, for the lock."""
    return {name: sha256(data).hexdigest() for name, data in files.items()}


def _contract(plan: Plan, info: ModelInfo, interface: Interface, layout: Layout) -> dict[str, Any]:
    """What an app must do before and after it runs the artifact."""
    thresholds = (
        app_rules(info.task)
        .for_head(info.head)
        .with_thresholds(interface.confidence, interface.iou)
    )
    inside = interface.iou is not None
    whole = plan.facts.names if plan.facts else info.names
    return {
        **json.loads(json.dumps(asdict(interface), sort_keys=True)),
        **({"gpu": plan.target.gpu} if plan.target.gpu else {}),
        "task": info.task,
        "head": info.head,
        "classes": len(info.names),
        **({"classes_of_the_model": len(whole)} if whole != info.names else {}),
        "strides": list(info.strides),
        "input_size": [plan.imgsz.height, plan.imgsz.width],
        "colour_order": "GREY" if info.channels == GREY else "RGB",
        "letterbox": {
            **_letterbox(info.images(plan.imgsz)),
        },
        "thresholds": asdict(thresholds),
        "postprocess": _SUPPRESSED if inside else dict(postprocess_of(info, thresholds, layout)),
        "golden": golden_file(info.task),
    }


def _letterbox(imgsz: ImageShape) -> dict[str, Any]:
    """How an image gets the size of the input, and the way back."""
    if imgsz.fit == "stretch":
        return {
            "rule": _STRETCH,
            "inverse": "x = x_resized * width / W; y = y_resized * height / H",
        }
    if imgsz.fit == "crop":
        return {"rule": _CROP, "inverse": _UNCROP}
    rule = _SQUARE if imgsz.height == imgsz.width else _RECTANGLE
    if imgsz.fit == "top-left":
        rule = rule[: rule.index("place at")] + _TOP_LEFT
    return {
        "rule": rule,
        "fill": [imgsz.fill] * imgsz.channels,
        "inverse": "x = (x_letterboxed - left) / s; y = (y_letterboxed - top) / s",
    }
