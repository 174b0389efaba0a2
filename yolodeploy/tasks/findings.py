"""The source model's findings, as a stored result: every artifact is compared with the same ones.

What was found in all images is kept, and the raw outputs of a few: at 640 pixels one of a detector takes 2.8 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.evaluate import Seen
from yolodeploy.tasks.thresholds import COMPARED

if TYPE_CHECKING:
    from yolodeploy.backend import Outputs
    from yolodeploy.tasks.task import Task

_FOUND = "found.npz"


@dataclass(frozen=True)
class Findings:
    """What the source model found in all images, and its raw outputs by image number."""

    found: list[Any]
    outputs: Mapping[int, Outputs]


class Recorder:
    """Writes the findings of a model into a folder while it runs."""

    def __init__(self, folder: Path, images: int, task: Task[Any, Any]) -> None:
        self._folder, self._task, self._found = folder, task, list[Any]()
        self._compared = compared(images)

    def add(self, seen: Seen) -> None:
        """Add the next image; the model is the first of those that ran."""
        self._found.append(seen.found(0))
        if seen.number in self._compared:
            for name, output in seen.outputs[0].items():
                self._append(name, output, first=seen.number == self._compared[0])

    def _append(self, name: str, output: NDArray[np.float32], *, first: bool) -> None:
        with (self._folder / f"{name}.npy").open("ab") as file:
            if first:
                shape = (len(self._compared), *output.shape)
                form = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, form)
            file.write(np.ascontiguousarray(output, "<f4").data)

    def finish(self) -> None:
        """Complete the files."""
        self._task.save(self._folder / _FOUND, self._found)


def compared(images: int) -> list[int]:
    """The numbers of the images whose raw outputs are compared."""
    count = min(COMPARED, images)
    return [place * images // count for place in range(count)]


def read_findings(folder: Path, task: Task[Any, Any]) -> Findings:
    """Read what a `Recorder` wrote; outputs are read when they are looked at."""
    found = task.load(folder / _FOUND)
    outputs = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in task.outputs}
    numbers: Sequence[int] = compared(len(found))
    each = (
        {name: output[place] for name, output in outputs.items()} for place in range(len(numbers))
    )
    return Findings(found, dict(zip(numbers, each, strict=True)))
