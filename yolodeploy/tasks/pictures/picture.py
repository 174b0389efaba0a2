"""The file `pictures.json`: what it holds, and how it is written. Imports nothing heavy, for `verify` reads it, too."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from yolodeploy.tasks.shapes import Shape

FORMAT = 1
MAX_PICTURES = 24
MAX_SIDE = 480  # pixels of a reduced copy
MAX_JPEG = 96 << 10  # bytes of one
MAX_SHAPES = 100  # of an image by one model, or of its labels
MAX_BYTES = 8 << 20  # of the file
Chosen: TypeAlias = Literal["worst", "sample"]


@dataclass(frozen=True)
class Picture:
    """An evaluation image, what is labelled in it (None: it has no labels), and what both models found.

    `image` is its file name and `digest` the sha256 of the file ("sha256:..."); `width` and `height` are its pixels, in
    which all shapes are. `fidelity` says how well both agree in this image alone, in 0..1 (None: neither found anything).
    `jpeg` is a reduced copy, its longer side at most `MAX_SIDE` pixels.
    """

    image: str
    digest: str
    width: int
    height: int
    chosen: Chosen
    fidelity: float | None
    jpeg: bytes
    truth: tuple[Shape, ...] | None
    source: tuple[Shape, ...]
    artifact: tuple[Shape, ...]

    def plain(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "image": self.image,
            "digest": self.digest,
            "width": self.width,
            "height": self.height,
            "chosen": self.chosen,
            "fidelity": self.fidelity,
            "jpeg": base64.b64encode(self.jpeg).decode("ascii"),
            "truth": None if self.truth is None else [shape.plain() for shape in self.truth],
            "source": [shape.plain() for shape in self.source],
            "artifact": [shape.plain() for shape in self.artifact],
        }


@dataclass(frozen=True)
class Pictures:
    """The images of a task that a report shows: those where both models differ most, the worst first, then a sample."""

    task: str
    pictures: tuple[Picture, ...]

    def encoded(self) -> bytes:
        """The file's bytes: JSON of at most `MAX_BYTES`; the last pictures are left out where it would be larger."""
        rows, room = list[str](), MAX_BYTES - 100
        for picture in self.pictures:
            rows.append(json.dumps(picture.plain(), separators=(",", ":"), allow_nan=False))
            room -= len(rows[-1]) + 2
            if room < 0:
                rows.pop()
                break
        listed = ",\n".join(rows)
        return f'{{"format":{FORMAT},"task":"{self.task}","pictures":[\n{listed}\n]}}\n'.encode()
