"""What the fixtures of the real models give; not in a conftest, of which each folder may have one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RealModel:
    """A checkpoint, its data.yaml and the size it was trained at."""

    weights: Path
    data: Path
    imgsz: int
