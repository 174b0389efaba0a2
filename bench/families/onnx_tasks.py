"""ONNX files of segment, pose, obb and classify models, as Ultralytics exports them, against ONNX Runtime on the file itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]

import exported as made  # noqa: E402 - found by the path above
import families as known  # noqa: E402

TASKS = tuple(
    f"{family}-{task}"
    for family in ("yolov8n", "yolo11n", "yolo26n")
    for task in ("seg", "pose", "obb", "cls")
)
SIZE = (96, 160)
Array = np.ndarray[Any, Any]
_KEYPOINTS = 17 * 3  # of all YAMLs
_SCALE = 1e-4 / 0.02  # of a score, against a pixel, where rows are paired


def of_task(name: str, work: Path) -> Iterator[dict[str, Any]]:
    """A row for the file as it comes and simplified, of both heads if there are two: how far PyTorch is from it."""
    oracle = known.oracle(name, work, size=SIZE)
    images, task = oracle.images.numpy(), known.task_of(name)
    for single in (False, True) if oracle.rows is not None else (False,):
        for kind in ("plain", "simplified"):
            more = {"nms": False} if single else {}
            path = made.export(oracle.checkpoint, SIZE, **more)
            path = made.simplified(path) if kind == "simplified" else path
            head = ", one-to-one" if single else ""
            title, folder = f"{name}{head}, opset 17, {kind}", work / f"{kind}{head}"
            folder, info = _read(path, folder)
            found = _far(folder, images, made.outputs(path, images), task, single=single)
            yield {"kind": f"{name}{head}", "file": title, "as": info.known, "refused": {}, "far": {"torch": found}}  # fmt: skip


def _read(path: Path, work: Path) -> tuple[Path, Any]:
    from torch_support import context

    import yolodeploy_onnx
    from yolodeploy.backend import Artifact, ModelInfo
    from yolodeploy.system import ImageShape

    given = replace(context(work), imgsz=ImageShape(*SIZE))
    step = yolodeploy_onnx.STEPS[0]
    folder = step.run(Artifact(".onnx", path, ""), step.params(), given)
    return folder, ModelInfo.read(folder)


def _far(
    folder: Path, images: Array, expected: list[Array], task: str, *, single: bool
) -> tuple[float, float]:
    """The largest difference of boxes and keypoints in px, and of the rest; prototypes relative to the largest."""
    import torch

    from yolodeploy.system import ImageShape
    from yolodeploy_torch.model import exportable

    with torch.no_grad():
        found = exportable(folder, ImageShape(*SIZE), len(images), rows=single)(
            torch.from_numpy(images)
        )
    outputs = [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]
    first = outputs[0]
    if single:
        first = np.stack([_paired(*pair, task) for pair in zip(first, expected[0], strict=True)])
    px, rest = known.task_differences(
        torch.from_numpy(first), torch.from_numpy(expected[0]), task, rows=single
    )
    if task == "segment":
        largest = float(abs(expected[1]).max())
        rest = max(rest, float(abs(outputs[1] - expected[1]).max()) / largest)
    return px, rest


def _paired(rows: Array, wanted: Array, task: str) -> Array:
    """For every row wanted the nearest: those of nearly equal scores have no order."""
    scale = np.full(rows.shape[1], 1.0)
    scale[:4] = _SCALE
    if task == "pose":
        scale[-_KEYPOINTS:][np.arange(_KEYPOINTS) % 3 < 2] = _SCALE
    apart = (abs(wanted[:, None] - rows[None]) * scale).max(2)
    found: Array = rows[apart.argmin(1)]
    return found
