"""Narrow models of every task, built by Ultralytics with random weights and exported by it to ONNX."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from families import Oracle, run, task_of

Array = np.ndarray[Any, Any]
NAMES = ("circle", "square", "triangle")
KEYPOINTS = (4, 3)
_WIDTH = 0.1  # of the channels that the largest scale has
_OPSET = 17


def narrow(name: str, folder: Path, size: tuple[int, int]) -> Oracle:
    """A model of the YAML `name`, as yolo11n-seg, with few channels, saved as Ultralytics does."""
    from ultralytics.nn import tasks

    torch.manual_seed(0)
    torch.set_num_threads(1)
    table: Any = tasks.yaml_model_load(f"{name}.yaml")
    depth, _, most = table["scales"]["n"]
    table["scales"] = {"n": [depth, _WIDTH, most]}
    table["kpt_shape"] = list(KEYPOINTS)
    kinds = {
        "Segment": tasks.SegmentationModel,
        "Pose": tasks.PoseModel,
        "OBB": tasks.OBBModel,
        "Classify": tasks.ClassificationModel,
    }
    head = table["head"][-1][2].removesuffix("26")
    model: Any = kinds[head](table, nc=len(NAMES), verbose=False)
    model.names = dict(enumerate(NAMES))
    path = folder / f"{name}.pt"

    def save() -> None:
        known = {"imgsz": 64, "task": task_of(name)}
        content = {"model": model.half(), "ema": None, "epoch": -1, "train_args": known}
        torch.save(content, path)

    return run(model, path, save, size)


def export(checkpoint: Path, size: tuple[int, int], **options: Any) -> Path:
    """The ONNX file that Ultralytics writes beside a checkpoint; nms=False selects the one-to-one head."""
    from ultralytics import YOLO

    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    given = {"opset": _OPSET, "simplify": False, "verbose": False, **options}
    with contextlib.redirect_stdout(sys.stderr):
        return Path(YOLO(checkpoint).export(format="onnx", imgsz=list(size), **given))


def simplified(path: Path) -> Path:
    """The file, simplified by onnxsim in place."""
    import onnxsim

    found, fine = onnxsim.simplify(onnx.load(path))
    assert fine
    onnx.save(found, path)
    return path


def outputs(path: Path, images: Array) -> list[Array]:
    """What ONNX Runtime gives with the file itself for images [N, 3, H, W], one at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    made = [session.run(None, {name: image[None]}) for image in images]
    return [np.concatenate(each) for each in zip(*made, strict=True)]


def without_metadata(path: Path, *keys: str) -> Path:
    """A copy of the file that says nothing of these; without keys, nothing at all."""
    return changed(path, dict.fromkeys(keys or _keys(path)))


def changed(path: Path, metadata: dict[str, str | None]) -> Path:
    """A copy of the file with other metadata; None removes it."""
    model = onnx.load(path)
    kept = {each.key: each.value for each in model.metadata_props} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in kept.items() if v is not None})
    copy = path.with_name(f"{path.stem}-changed.onnx")
    onnx.save(model, copy)
    return copy


def _keys(path: Path) -> list[str]:
    return [each.key for each in onnx.load(path).metadata_props]
