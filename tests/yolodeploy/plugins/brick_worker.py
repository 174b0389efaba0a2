"""Runs a brick where it travels to: what `kiln` does, with nothing but numpy. BRICK_FAULT makes it misbehave."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
_ANCHORS = 8


class Brick:
    """Finds the rectangle of each class's colour, as `clay.Finder`."""

    def __init__(self, folder: Path) -> None:
        self._brick = json.loads((folder / "brick.json").read_text(encoding="utf-8"))
        self.runtime = {"name": "kiln", "version": "2.0", "device": "the other kiln"}

    def __call__(self, images: Any) -> dict[str, Any]:
        time.sleep(self._brick["seconds"])
        names = self._brick["names"]
        out = np.zeros((len(images), 4 + len(names), _ANCHORS), np.float32)
        for row, image in zip(out, images, strict=True):
            for index, name in enumerate(names):
                self._find(image, index, name, row)
        if os.environ.get("BRICK_FAULT") == "nan":
            out[:, 0, 0] = np.nan
        return {"raw": out}

    def _find(self, image: Any, index: int, name: str, row: Any) -> None:
        colour = np.array(_COLOURS[name], np.float32)[:, None, None]
        ys, xs = np.nonzero((np.abs(image - colour) < 0.35).all(0))
        damage = self._brick["damage"]
        if not len(xs) or name in (damage.get("miss") or ()):
            return
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        shift = damage.get("shift", 0.0)
        row[:4, index] = (left + right) / 2 + shift, (top + bottom) / 2, right - left, bottom - top
        row[4 + index, index] = 0.875 - damage.get("noise", 0.0)


def open(folder: Path, options: Mapping[str, Any], threads: int) -> Brick:  # noqa: A001
    """Open the brick in a folder."""
    return Brick(folder)
