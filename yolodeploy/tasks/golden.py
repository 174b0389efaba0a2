"""Golden vectors: one image, the tensor it becomes, the outputs, and what is found in them.

An app team runs its own pre-processing on the image and compares with the tensor, and its own
post-processing on the outputs and compares with what was found.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from yolodeploy.backend import OUTPUT
from yolodeploy.data import Letterboxed
from yolodeploy.tasks.evaluate import Floats, Seen
from yolodeploy.tasks.thresholds import Rules
from yolodeploy.tasks.wording import golden_file

_TENSOR = (
    "input.npy is the image in the size of the input, in 0..1 (pixels / 255), as [1, channels, height, width], whatever type and "
    "scale the artifact takes; the outputs have no batch axis"
)
_PLACED = (
    "`scale` of the letterbox is s, or that of x and that of y; `left` and `top` are where the image begins in the input; "
    "`width` and `height` are those of the original image"
)
_ROUNDED = "what was found is in pixels of the original image, rounded to 3 decimals; numbers that are no pixels are rounded to 6"


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
        found = seen.task.count(seen.found(-1, self._rules))
        if self._chosen is None or found:
            self._chosen, self._found = seen, found

    def finish(self) -> None:
        """Write the vectors."""
        assert self._chosen is not None  # noqa: S101 - a data set without images is refused earlier
        seen, rules = self._chosen, self._rules
        image, layout = f"image{seen.image.suffix.lower()}", seen.layouts[-1]
        shutil.copyfile(seen.image, self._folder / image)
        _save(self.tensor, seen.tensor)
        for name, output in seen.outputs[-1].items():
            _save(self._folder / f"{name}.npy", output)
        others = [name for name in seen.outputs[-1] if name != OUTPUT]
        text = {
            "image": image,
            "output": f"output.npy is {seen.task.output_text(rules, layout)}",
            **({"outputs": [OUTPUT, *others]} if others else {}),
            "layout": layout,
            "notes": [_TENSOR, _PLACED, _ROUNDED],
            "letterbox": _placed(seen.box),
            "rules": asdict(rules),
            **seen.task.golden(seen.found(-1, rules)),
        }
        file = self._folder.parent / golden_file(seen.task.name)
        file.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def _placed(box: Letterboxed) -> dict[str, Any]:
    """How the image was placed; `scale` is one number unless the image was stretched."""
    across, down = box.scale
    placed = {key: value for key, value in asdict(box).items() if key != "pixels"}
    return placed | {"scale": across if across == down else [across, down]}


def _save(file: Path, array: Floats) -> None:
    """Write an array; np.save to a full disk raises an error that does not say so."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    file.write_bytes(buffer.getvalue())
