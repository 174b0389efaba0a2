"""What a segment model finds in an image: from raw outputs, and as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.tasks.detection import Detections, choose, to_original
from yolodeploy.tasks.segment.assembly import assemble
from yolodeploy.tasks.segment.contract import COEFFICIENTS
from yolodeploy.tasks.segment.masks import Masks

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Letterboxed
    from yolodeploy.tasks.thresholds import Rules


@dataclass(frozen=True, eq=False)
class Segments:
    """Objects found in one image, best first.

    `boxes` is float32 `[n, 4]`: left, top, right, bottom in pixels of the original image; `scores` float32 `[n]` in 0..1;
    `classes` int64 `[n]`; `masks` as large as the original image. A mask may have no pixel.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Masks

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, places: NDArray[np.int64]) -> Segments:
        """Some of them, by their places `[k]`."""
        rest = self.scores[places], self.classes[places], self.masks.take(places)
        return Segments(self.boxes[places], *rest)

    @property
    def boxed(self) -> Detections:
        """Without their masks."""
        return Detections(self.boxes, self.scores, self.classes)


def segments(outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Segments:
    """The objects in one image, by its anchors `[4 + classes + 32, anchors]` or rows `[k, 38]`, and its prototypes."""
    found, coefficients = choose(outputs[OUTPUT], rules, layout, COEFFICIENTS)
    boxes = to_original(found.boxes, box)
    masks = assemble(coefficients, outputs[PROTOTYPES], boxes, box)
    return Segments(boxes, found.scores, found.classes, masks)


def save_segments(file: Path, images: Sequence[Segments]) -> None:
    """Write what was found in several images as one .npz file."""
    runs = [run for found in images for run in found.masks.runs]
    np.savez(
        file,
        counts=np.array([len(found) for found in images], np.int64),
        sizes=np.array([(found.masks.height, found.masks.width) for found in images], np.int64),
        boxes=np.concatenate([found.boxes for found in images]),
        scores=np.concatenate([found.scores for found in images]),
        classes=np.concatenate([found.classes for found in images]),
        areas=np.concatenate([found.masks.areas for found in images]),
        lengths=np.array([len(run) for run in runs], np.int64),
        runs=np.frombuffer(b"".join(runs), np.uint8),
    )


def load_segments(file: Path) -> list[Segments]:
    """Read what `save_segments` wrote, image by image."""
    with np.load(file) as data:
        ends, packed = np.cumsum(data["lengths"]), data["runs"].tobytes()
        places = np.cumsum(data["counts"])[:-1]
        names = ("boxes", "scores", "classes", "areas")
        fields = [np.split(data[name], places) for name in names]
        sizes = data["sizes"].tolist()
    starts = np.concatenate([[0], ends[:-1]]).tolist() if len(ends) else []
    runs = [packed[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    found, taken = [], 0
    for boxes, scores, classes, areas, size in zip(*fields, sizes, strict=True):
        height, width = size
        masks = Masks(height, width, tuple(runs[taken : taken + len(scores)]), areas)
        found.append(Segments(boxes, scores, classes, masks))
        taken += len(scores)
    return found
