"""The real models and images that tests use; not in a conftest, of which each folder may have one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "models" / "shapes-yolov8n.pt"
# COCO images and a checkpoint, kept beside the project and not in it.
SHARED = Path(os.environ.get("YOLODEPLOY_SHARED", ROOT.parent / "shared"))


@dataclass(frozen=True)
class RealModel:
    """A checkpoint, its data.yaml and the size it was trained at."""

    weights: Path
    data: Path
    imgsz: int
