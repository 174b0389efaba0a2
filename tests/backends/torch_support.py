"""What the tests of the torch plugin share: running its step, and odd checkpoints."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import yolodeploy_torch
from yolodeploy.backend import Artifact, Context, Device, Target

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(os.environ.get("YOLODEPLOY_TEST_MODEL", ROOT / "models" / "shapes-yolov8n.pt"))
COCO = Path(os.environ.get("YOLODEPLOY_COCO", ROOT.parent / "shared"))
COCO_MODEL = COCO / "models" / "yolov8n-coco.pt"
COCO_IMAGES = COCO / "coco" / "images" / "val2017"
TARGET = Target(Device("any", "Any device", "linux"))


def context(work: Path, imgsz: int = 160) -> Context:
    work.mkdir(parents=True)
    return Context(work, 0, imgsz, 1, TARGET, (), {}, lambda *_: None)


def load(checkpoint: Path, work: Path) -> Artifact:
    source = Artifact(".pt", checkpoint, "")
    folder = yolodeploy_torch.STEPS[0].run(source, yolodeploy_torch.Load(), context(work))
    return Artifact("yolo", folder, "")


def archive(path: Path, pickled: bytes) -> Path:
    """Write a checkpoint archive around a handmade pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")
    return path
