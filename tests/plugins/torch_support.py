"""Shared by the tests of the torch plugin: its models, and its step `load`."""

from __future__ import annotations

from pathlib import Path

from real_model import DEMO, ROOT, SHARED  # noqa: F401 - for the tests beside it

import yolodeploy_torch
from yolodeploy.backend import NO_MODEL, Artifact, Context, Device, Load, Target
from yolodeploy.system import ImageShape

COCO_MODEL = SHARED / "models" / "yolov8n-coco.pt"
COCO_IMAGES = SHARED / "coco" / "images" / "val2017"
TARGET = Target(Device("any", "Any device", "linux"))


def context(work: Path, imgsz: int = 160) -> Context:
    work.mkdir(parents=True)
    return Context(work, 0, ImageShape.square(imgsz), 1, TARGET, NO_MODEL, {}, lambda *_: None)


def load(checkpoint: Path, work: Path, params: Load | None = None) -> Artifact:
    source = Artifact(".pt", checkpoint, "")
    folder = yolodeploy_torch.STEPS[0].run(source, params or Load(), context(work))
    return Artifact("yolo", folder, "")
