"""A report and pictures in which everything is there, made of the report of a real deployment."""

import base64
import json
import random
from typing import Any

import cv2
import numpy as np

from yolodeploy.tasks import Pictures, parse_pictures

EVIL = "<script>alert(1)</script><b>\"'& "
GRID = [step / 100 for step in range(101)]


def full(report: dict[str, Any]) -> dict[str, Any]:
    """With curves, latencies and bytes of layers."""
    curve = {
        "precision_recall": {"recall": GRID, "precision": [1 - x**3 for x in GRID]},
        "confidence": {
            "confidence": GRID,
            "precision": GRID,
            "recall": [1 - x for x in GRID],
            "f1": [4 * x * (1 - x) for x in GRID],
        },
    }
    samples = random.Random(1)
    return {
        **report,
        "curves": {"source": curve, "artifact": curve},
        "latencies": {
            name: [mean * samples.lognormvariate(0, 0.05) for _ in range(60)]
            for name, mean in (("artifact", 5.0), ("float", 9.0))
        },
        "bytes_by_layer": [
            {"layer": f"model.{at}.conv", "part": "neck", "form": "int8", "bytes": 1000 * at}
            for at in range(1, 20)
        ],
    }


def with_names(value: Any, old: str, new: str) -> Any:
    """The value with every text `old` in it replaced."""
    return json.loads(json.dumps(value).replace(json.dumps(old), json.dumps(new)))


def pictures(task: str, count: int = 8, name: str = "cat", image: str = "0.jpg") -> Pictures:
    """Images in which something was lost, added and changed; every fourth is one of a sample."""
    rows = [
        {
            "image": image,
            "digest": f"sha256:{0:064}",
            "width": 320,
            "height": 240,
            "chosen": "sample" if number % 4 == 3 else "worst",
            "fidelity": 0.5,
            "jpeg": _jpeg(number),
            "truth": [_shape(task, name, None, 40)],
            "source": [_shape(task, name, "lost", 40), _shape(task, name, None, 120)],
            "artifact": [_shape(task, name, "added", 80), _shape(task, name, "changed", 160)],
        }
        for number in range(count)
    ]
    return parse_pictures(json.dumps({"format": 1, "task": task, "pictures": rows}).encode())


def _jpeg(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    _, data = cv2.imencode(".jpg", cv2.resize(pixels, (320, 240)))
    return base64.b64encode(data.tobytes()).decode()


def _shape(task: str, name: str, mark: str | None, x: int) -> dict[str, Any]:
    box = [[x, 50], [x + 60, 50], [x + 60, 120], [x, 120]]
    shape: dict[str, Any] = {"class": name, "score": 0.5, "mark": mark}
    shape |= {"outlines": [] if task == "classify" else [box], "lines": [], "points": []}
    if task == "pose":
        shape |= {"points": [[x, 60], [x + 50, 110]], "lines": [[x, 60, x + 50, 110]]}
    return shape
