"""What a file is for: its task, as the recipe, the metadata or the outputs say."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolodeploy.recipe import Layout
from yolodeploy.system import quotable

Floats = NDArray[np.float32]
KptShape = tuple[int, Literal[2, 3]]  # keypoints, and the numbers of each
Task = Literal["detect", "segment", "pose", "obb", "classify"]
LAYOUTS: Mapping[Layout, Task] = {
    "ultralytics-segment": "segment",
    "ultralytics-pose": "pose",
    "ultralytics-obb": "obb",
    "classify": "classify",
}
COEFFICIENTS = 32  # of a mask, and as many prototypes
_BOX, _MAP, _FLAT, _VECTOR = 4, 4, 3, 2  # numbers of a box; axes
_MOST_KEYPOINTS, _MOST_LETTERS = 1024, 100
_KNOWN: Mapping[str, Task] = {task: task for task in ("detect", *LAYOUTS.values())}


class Unclear(ValueError):
    """The layout cannot be told, or is not known; the message is the end of a sentence."""


@dataclass(frozen=True)
class Purpose:
    """What a model does: its classes and its task, of a pose how many keypoints there are, and the numbers of each."""

    names: tuple[str, ...]
    task: Task = "detect"
    kpt_shape: KptShape | None = None

    @property
    def columns(self) -> int:
        """How many numbers an anchor has."""
        return _BOX + len(self.names) + self.extras

    @property
    def extras(self) -> int:
        """How many numbers the task adds to the box and the scores of an anchor."""
        if self.kpt_shape:
            return math.prod(self.kpt_shape)
        return {"segment": COEFFICIENTS, "obb": 1}.get(self.task, 0)


def purpose(
    names: tuple[str, ...],
    metadata: Mapping[str, str],
    outputs: Mapping[str, Floats],
    stated: Layout | None,
    kpt_shape: KptShape | None,
) -> Purpose:
    """What a file with these outputs is for; `stated` and `kpt_shape` are what the recipe says.

    Raises `Unclear` for a task that is not known, or a pose of which nothing says what its keypoints are.
    """
    if stated:
        task = LAYOUTS.get(stated, "detect")
    elif said := metadata.get("task"):
        if said not in _KNOWN:
            raise Unclear(
                f"it is a model for the task `{quotable(said)}`, and {', '.join(_KNOWN)} are known"
            )
        task = _KNOWN[said]
    else:
        task = _by_outputs(outputs, len(names))
    if task != "pose":
        return Purpose(names, task)
    return Purpose(names, task, kpt_shape or _keypoints(metadata))


def _by_outputs(outputs: Mapping[str, Floats], classes: int) -> Task:
    """The task that shapes alone tell; keypoints and angles look like scores."""
    shapes = [value.shape for value in outputs.values()]
    if shapes == [(1, classes)]:
        return "classify"
    flat = [shape for shape in shapes if len(shape) == _FLAT]
    maps = [shape for shape in shapes if len(shape) == _MAP]
    if len(shapes) == _VECTOR and len(flat) == len(maps) == 1:
        return "segment"
    return "detect"


def _keypoints(metadata: Mapping[str, str]) -> KptShape:
    """The `kpt_shape` of the metadata, as Ultralytics writes it."""
    text = metadata.get("kpt_shape", "")[:_MOST_LETTERS]
    found: object = None
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        found = ast.literal_eval(text)
    if isinstance(found, list | tuple) and [type(each) for each in found] == [int, int]:
        count, numbers = found
        if 1 <= count <= _MOST_KEYPOINTS and numbers in (2, 3):
            return int(count), 2 if numbers == 2 else 3
    has = f"has the unusable `kpt_shape` {text!a}" if text else "does not say what they are"
    raise Unclear(
        f"it has keypoints, and its metadata {has}. Write `head: {{layout: ultralytics-pose, kpt_shape: [COUNT, "
        "NUMBERS]}`, of 2 numbers (x, y) or 3 (with visibility) each"
    )
