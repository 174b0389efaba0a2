"""The source model's findings, as a stored result: every artifact is compared with the same ones.

The detections of all images are kept, and the raw outputs of a few: at 640 pixels one takes 2.8 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolodeploy.tasks.detection.evaluate import Seen
from yolodeploy.tasks.detection.postprocess import (
    Detections,
    Floats,
    load_detections,
    save_detections,
)
from yolodeploy.tasks.thresholds import COMPARED

_DETECTIONS, _OUTPUTS = "detections.npz", "outputs.npy"


@dataclass(frozen=True)
class Findings:
    """What the source model found: detections of all images, and anchors `[4 + classes, anchors]` by image number."""

    detections: list[Detections]
    outputs: Mapping[int, Floats]


class Recorder:
    """Writes the findings of a model into a folder while it runs."""

    def __init__(self, folder: Path, images: int) -> None:
        self._folder, self._detections = folder, list[Detections]()
        self._compared = compared(images)

    def add(self, seen: Seen) -> None:
        """Add the next image; the model is the first of those that ran."""
        self._detections.append(seen.found(0))
        if seen.number in self._compared:
            output = np.ascontiguousarray(seen.outputs[0], np.float32)
            with (self._folder / _OUTPUTS).open("ab") as file:
                if seen.number == self._compared[0]:
                    shape = (len(self._compared), *output.shape)
                    form = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, form)
                file.write(output.astype("<f4", copy=False).data)

    def finish(self) -> None:
        """Complete the files."""
        save_detections(self._folder / _DETECTIONS, self._detections)


def compared(images: int) -> list[int]:
    """The numbers of the images whose raw outputs are compared."""
    count = min(COMPARED, images)
    return [place * images // count for place in range(count)]


def read_findings(folder: Path) -> Findings:
    """Read what a `Recorder` wrote; outputs are read when they are looked at."""
    detections = load_detections(folder / _DETECTIONS)
    outputs = np.load(folder / _OUTPUTS, mmap_mode="r")
    return Findings(detections, dict(zip(compared(len(detections)), outputs, strict=True)))
