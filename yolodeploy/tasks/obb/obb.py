"""The task "obb": oriented bounding boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.average_precision import mean_precision
from yolodeploy.tasks.comparison import against_labels, image_fidelity
from yolodeploy.tasks.curves import curves_of
from yolodeploy.tasks.detection import load_found, rows_fault, save_found
from yolodeploy.tasks.matching import Matches
from yolodeploy.tasks.measures import Curve, Key, Measure
from yolodeploy.tasks.obb.boxes import (
    Floats,
    Rotated,
    prob_iou,
    rotated_outlines,
    to_corners,
)
from yolodeploy.tasks.obb.contract import output_text
from yolodeploy.tasks.obb.labels import Truth, confident_truth, matches, truth_of
from yolodeploy.tasks.obb.outputs import differences, noise
from yolodeploy.tasks.obb.postprocess import rotated
from yolodeploy.tasks.shapes import Marks, Shape, marks_of, shapes_of
from yolodeploy.tasks.thresholds import APP, Rules, evaluation_rules

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed


@dataclass(frozen=True)
class Obb:
    """Finds rotated boxes of these classes.

    The output is anchors `[4 + classes + 1, anchors]`, or rows `[k, 7]`: cx, cy, w, h, score, class, angle.
    """

    names: tuple[str, ...]

    name: ClassVar[str] = "obb"
    scores: ClassVar[tuple[Key, ...]] = (Key.MAP50_95, Key.MAP50)
    primary: ClassVar[Key] = Key.MAP50_95
    outputs: ClassVar[tuple[str, ...]] = (OUTPUT,)
    evaluation: ClassVar[Rules] = evaluation_rules("obb")
    app: ClassVar[Rules] = APP

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> Truth:
        """The labelled rotated boxes."""
        return truth_of(view.corners(image), width, height)

    def found(self, outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Rotated:
        """The rotated boxes in an image."""
        return rotated(outputs[OUTPUT], rules, box, layout)

    def count(self, found: Rotated) -> int:
        """How many boxes were found."""
        return len(found)

    def objects(self, truth: Truth) -> int:
        """How many boxes are labelled."""
        return len(truth.classes)

    def as_truth(self, found: Rotated, image: Truth) -> Truth:  # noqa: ARG002
        """Confident boxes as labels."""
        return confident_truth(found, self.app.confidence)

    def agreement(
        self,
        source: Sequence[Rotated],  # noqa: ARG002
        artifact: Sequence[Rotated],  # noqa: ARG002
    ) -> tuple[Measure, ...]:
        """Nothing: fidelity says it."""
        return ()

    def score(self, truths: Sequence[Truth], found: Sequence[Rotated]) -> float:
        """The rotated mAP50-95; NaN without labels."""
        return mean_precision(self._matches(truths, found))

    def against_labels(
        self,
        truths: Sequence[Truth],
        source: Sequence[Rotated],
        artifact: Sequence[Rotated],
        confidence: float,
    ) -> Iterator[Measure]:
        """Rotated AP of both models, by object size and by class."""
        ours, theirs = (self._matches(truths, found) for found in (source, artifact))
        return against_labels(ours, theirs, self.names, confidence)

    def differences(
        self, source: Outputs, artifact: Outputs, layout: Layout
    ) -> Mapping[str, Floats]:
        """How far the artifact's centres and sides (px), scores and angles (rad, modulo pi) are from the source's."""
        return differences(source[OUTPUT], artifact[OUTPUT], layout)

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:
        """What is wrong with rows."""
        return rows_fault(outputs[OUTPUT], len(self.names)) if layout == "rows" else None

    def noise(
        self, reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
    ) -> float:
        """The noise of scores and corners."""
        return noise(_main(reference), _main(compressed), layout)

    def save(self, file: Path, found: Sequence[Rotated]) -> None:
        """Write rotated boxes."""
        save_found(file, Rotated, found)

    def load(self, file: Path) -> list[Rotated]:
        """Read rotated boxes."""
        return load_found(file, Rotated)

    def output_text(self, rules: Rules, layout: Layout) -> str:
        """What the output is."""
        return output_text(rules, layout)

    def golden(self, found: Rotated) -> Mapping[str, Any]:
        """Boxes, best first: class, score, centre, size, angle in radians, and corners in pixels of the original."""
        corners = to_corners(found.boxes).round(3).tolist()
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), corners, strict=True)  # fmt: skip
        return {"detections": [_plain(*row) for row in rows]}

    def confident(self, found: Rotated) -> Rotated:
        """Those with the confidence that an app asks for."""
        return found.take(found.scores > self.app.confidence)

    def shapes(self, found: Rotated) -> tuple[Shape, ...]:
        """Rotated boxes."""
        return shapes_of(self.names, found.classes, found.scores, rotated_outlines(found.boxes))

    def truth_shapes(self, truth: Truth) -> tuple[Shape, ...]:
        """The labelled rotated boxes."""
        return shapes_of(self.names, truth.classes, None, rotated_outlines(truth.boxes))

    def marks(self, source: Rotated, artifact: Rotated) -> Marks:
        """What both share, by ProbIoU."""
        similarity = prob_iou(source.boxes[:, None], artifact.boxes[None])
        return marks_of(source.classes, artifact.classes, similarity)

    def image_fidelity(
        self, truths: Sequence[Truth], source: Sequence[Rotated], artifact: Sequence[Rotated]
    ) -> list[float | None]:
        """The AP of either against the other, see `comparison.image_fidelity`."""
        return image_fidelity(self._matches, self.as_truth, truths, source, artifact)

    def curves(
        self, truths: Sequence[Truth], found: Sequence[Rotated]
    ) -> Mapping[str, Curve] | None:
        """Precision and recall at a ProbIoU of 0.5."""
        return curves_of(self._matches(truths, found))

    def _matches(self, truths: Sequence[Truth], found: Sequence[Rotated]) -> Matches:
        return matches(truths, found, len(self.names))


def _main(outputs: Iterable[Outputs]) -> Iterator[Floats]:
    return (each[OUTPUT] for each in outputs)


def _plain(cls: int, score: float, box: list[float], corners: list[list[float]]) -> dict[str, Any]:
    x, y, width, height, angle = box
    return {
        "class": cls,
        "score": round(score, 6),
        "centre": [round(x, 3), round(y, 3)],
        "size": [round(width, 3), round(height, 3)],
        "angle": round(angle, 6),
        "corners": corners,
    }
