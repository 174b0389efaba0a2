"""Golden vectors: one image, the tensor it becomes, the output, and the detections.

An app team runs its own pre-processing on the image and compares with the tensor, and its own
post-processing on the output and compares with the detections.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from yolodeploy.backend import ROWS, Layout
from yolodeploy.data import Letterboxed
from yolodeploy.tasks.detection.evaluate import Seen
from yolodeploy.tasks.detection.postprocess import Floats
from yolodeploy.tasks.thresholds import Rules


class Golden:
    """Keeps the first image on which the artifact finds something, or the first of all."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self._folder, self._rules = folder, rules
        self._chosen: Seen | None = None
        self._found = 0

    @property
    def tensor(self) -> Path:
        """The written input tensor: float32 `[1, 3, H, W]`."""
        return self._folder / "input.npy"

    def offer(self, seen: Seen) -> None:
        """Consider an image; the artifact is the last of the models that were run on it."""
        if self._found:
            return
        found = len(seen.found(-1, self._rules))
        if self._chosen is None or found:
            self._chosen, self._found = seen, found

    def finish(self) -> None:
        """Write the vectors."""
        assert self._chosen is not None  # noqa: S101 - a data set without images is refused earlier
        image, box, tensor = self._chosen.image, self._chosen.box, self._chosen.tensor
        output, layout = self._chosen.outputs[-1], self._chosen.layouts[-1]
        shutil.copyfile(image, self._folder / f"image{image.suffix.lower()}")
        _save(self.tensor, tensor)
        _save(self._folder / "output.npy", output)
        found = self._chosen.found(-1, self._rules)
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        text = {
            "image": f"image{image.suffix.lower()}",
            "output": f"output.npy is {output_text(self._rules, layout)}",
            "layout": layout,
            "letterbox": _placed(box),
            "rules": asdict(self._rules),
            "detections": [
                {"class": cls, "score": round(score, 6), "box": [round(edge, 3) for edge in edges]}
                for cls, score, edges in rows
            ],
        }
        file = self._folder / "detections.json"
        file.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def _placed(box: Letterboxed) -> dict[str, Any]:
    """How the image was placed; `scale` is one number unless the image was stretched."""
    across, down = box.scale
    placed = {key: value for key, value in asdict(box).items() if key != "pixels"}
    return placed | {"scale": across if across == down else [across, down]}


def output_text(rules: Rules, layout: Layout) -> str:
    """What an output is, as the rest of a sentence."""
    if layout == "rows":
        return (
            "rows of left, top, right, bottom, score and class, best first; no suppression follows"
        )
    if rules.iou is None:
        return f"the raw head output; the best {ROWS} pairs of an anchor and a class are taken, without suppression"
    return "the raw head output, before suppression"


def _save(file: Path, array: Floats) -> None:
    """Write an array; np.save to a full disk raises an error that does not say so."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    file.write_bytes(buffer.getvalue())
