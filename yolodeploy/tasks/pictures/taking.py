"""Takes the pictures of a comparison: chooses images, reads them again, and says what is in them as shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolodeploy.data import Dataset, read_image
from yolodeploy.system import file_digest
from yolodeploy.tasks.pictures.choice import Choice, choose
from yolodeploy.tasks.pictures.picture import MAX_JPEG, MAX_SHAPES, MAX_SIDE, Picture, Pictures
from yolodeploy.tasks.shapes import Mark, Shape

if TYPE_CHECKING:
    from yolodeploy.data import Pixels
    from yolodeploy.tasks.tally import Tally

_QUALITIES = (80, 60, 40, 20)  # of a JPEG; the first that is small enough
_MAX_NAME = 200  # characters of a file name


def take_pictures(tally: Tally, view: Dataset, channels: int) -> Pictures:
    """The pictures of what both models found in a view, whose images have so many channels.

    Raises DataError if an image can no longer be read.
    """
    task = tally.task
    fidelity = task.image_fidelity(tally.truths, tally.source, tally.artifact)
    chosen = choose(fidelity)
    return Pictures(
        task.name,
        tuple(_picture(tally, view, channels, each, fidelity[each.number]) for each in chosen),
    )


def _picture(
    tally: Tally, view: Dataset, channels: int, choice: Choice, fidelity: float | None
) -> Picture:
    task, number, path = tally.task, choice.number, view.images[choice.number]
    image = read_image(path, channels)
    found = [task.confident(model[number]) for model in (tally.source, tally.artifact)]
    marks = task.marks(*found)
    truth = task.truth_shapes(tally.truths[number])[:MAX_SHAPES] if view.labelled else None
    return Picture(
        image=_name(path),
        digest=f"sha256:{file_digest(path)}",
        width=image.shape[1],
        height=image.shape[0],
        chosen=choice.chosen,
        fidelity=None if fidelity is None else round(fidelity, 4),
        jpeg=_reduced(image),
        truth=truth,
        source=_marked(task.shapes(found[0]), marks.source),
        artifact=_marked(task.shapes(found[1]), marks.artifact),
    )


def _name(path: Path) -> str:
    return path.name[-_MAX_NAME:].encode("utf-8", "replace").decode("utf-8")


def _marked(shapes: Sequence[Shape], marks: Sequence[Mark | None]) -> tuple[Shape, ...]:
    """The best shapes with their marks."""
    pairs = list(zip(shapes, marks, strict=True))[:MAX_SHAPES]
    return tuple(replace(shape, mark=mark) for shape, mark in pairs)


def _reduced(image: Pixels) -> bytes:
    """A small JPEG of an image uint8 `[H, W, 3 or 1]`, RGB or grey, without anything that its file says beside."""
    colours: Any = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
    height, width = image.shape[:2]
    side = MAX_SIDE
    while True:
        scale = min(1.0, side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)
        for quality in _QUALITIES:
            _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if len(data) <= MAX_JPEG:
                return np.asarray(data).tobytes()
        side //= 2
