"""Object detection as a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.average_precision import mean_precision
from yolodeploy.tasks.comparison import image_fidelity
from yolodeploy.tasks.curves import curves_of
from yolodeploy.tasks.detection.accuracy import against_labels, as_truth, confident
from yolodeploy.tasks.detection.contract import output_text
from yolodeploy.tasks.detection.files import load_found, save_found
from yolodeploy.tasks.detection.matching import (
    Truth,
    box_iou,
    boxes_of,
    corners_of,
    matches,
    sides_of,
)
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy.tasks.detection.postprocess import (
    Detections,
    Floats,
    detect,
)
from yolodeploy.tasks.detection.rows import best_rows, row_differences, rows_fault
from yolodeploy.tasks.matching import Matches
from yolodeploy.tasks.measures import Curve, Key, Measure
from yolodeploy.tasks.shapes import Marks, Shape, box_outlines, marks_of, shapes_of
from yolodeploy.tasks.thresholds import APP, EVALUATION, Rules

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed


@dataclass(frozen=True)
class Detect:
    """Finds upright boxes. The output is anchors `[4 + classes, anchors]`, or rows `[k, 6]`."""

    names: tuple[str, ...]

    name: ClassVar[str] = "detect"
    scores: ClassVar[tuple[Key, ...]] = (Key.MAP50_95, Key.MAP50)
    primary: ClassVar[Key] = Key.MAP50_95
    outputs: ClassVar[tuple[str, ...]] = (OUTPUT,)
    evaluation: ClassVar[Rules] = EVALUATION
    app: ClassVar[Rules] = APP

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> Truth:
        """The labelled boxes."""
        return Truth(view.boxes(image), width, height)

    def found(self, outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Detections:
        """The detections in an image."""
        return detect(outputs[OUTPUT], rules, box, layout)

    def count(self, found: Detections) -> int:
        """How many objects were found."""
        return len(found)

    def objects(self, truth: Truth) -> int:
        """How many objects are labelled."""
        return len(truth.boxes)

    def as_truth(self, found: Detections, image: Truth) -> Truth:
        """Confident detections as labels."""
        return as_truth(found, image)

    def agreement(
        self, _source: Sequence[Detections], _artifact: Sequence[Detections]
    ) -> tuple[Measure, ...]:
        """Nothing: fidelity says it."""
        return ()

    def score(self, truths: Sequence[Truth], found: Sequence[Detections]) -> float:
        """The mAP50-95."""
        return mean_precision(self._matches(truths, found))

    def against_labels(
        self,
        truths: Sequence[Truth],
        source: Sequence[Detections],
        artifact: Sequence[Detections],
        confidence: float,
    ) -> Iterator[Measure]:
        """AP of both models, by object size and by class."""
        return against_labels(truths, source, artifact, self.names, confidence)

    def differences(
        self, source: Outputs, artifact: Outputs, layout: Layout
    ) -> Mapping[str, Floats]:
        """How far the artifact's boxes (px) and scores are from the source model's.

        Anchors are compared number by number. If the artifact ends in rows, the source's anchors become rows by the
        same selection, and pairs are compared: see `pair_rows`.
        """
        exact, close = source[OUTPUT], artifact[OUTPUT]
        if layout == "rows":
            boxes, scores = row_differences(best_rows(exact), close)
        else:
            difference = abs(close - exact)
            boxes, scores = difference[:4], difference[4:]
        return {"boxes_px": boxes, "scores": scores}

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:
        """What is wrong with rows."""
        return rows_fault(outputs[OUTPUT], len(self.names)) if layout == "rows" else None

    def noise(
        self, reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
    ) -> float:
        """The noise of scores and boxes."""
        return output_noise(_main(reference), _main(compressed), layout)

    def save(self, file: Path, found: Sequence[Detections]) -> None:
        """Write detections."""
        save_found(file, Detections, found)

    def load(self, file: Path) -> list[Detections]:
        """Read detections."""
        return load_found(file, Detections)

    def output_text(self, rules: Rules, layout: Layout) -> str:
        """What the output is."""
        return output_text(rules, layout)

    def golden(self, found: Detections) -> Mapping[str, Any]:
        """Detections, best first."""
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        return {
            "detections": [
                {"class": cls, "score": round(score, 6), "box": [round(edge, 3) for edge in edges]}
                for cls, score, edges in rows
            ]
        }

    def confident(self, found: Detections) -> Detections:
        """Those with the confidence that an app asks for."""
        return confident(found)

    def shapes(self, found: Detections) -> tuple[Shape, ...]:
        """Boxes."""
        return shapes_of(self.names, found.classes, found.scores, box_outlines(found.boxes))

    def truth_shapes(self, truth: Truth) -> tuple[Shape, ...]:
        """The labelled boxes."""
        boxes, classes = boxes_of(truth.boxes, truth.width, truth.height)
        return shapes_of(self.names, classes, None, box_outlines(corners_of(boxes)))

    def marks(self, source: Detections, artifact: Detections) -> Marks:
        """What both share, by IoU."""
        similarity = box_iou(sides_of(source.boxes), sides_of(artifact.boxes))
        return marks_of(source.classes, artifact.classes, similarity)

    def image_fidelity(
        self, truths: Sequence[Truth], source: Sequence[Detections], artifact: Sequence[Detections]
    ) -> list[float | None]:
        """The AP of either against the other, see `comparison.image_fidelity`."""
        return image_fidelity(self._matches, self.as_truth, truths, source, artifact)

    def curves(
        self, truths: Sequence[Truth], found: Sequence[Detections]
    ) -> Mapping[str, Curve] | None:
        """Precision and recall at an IoU of 0.5."""
        return curves_of(self._matches(truths, found))

    def _matches(self, truths: Sequence[Truth], found: Sequence[Detections]) -> Matches:
        return matches(truths, found, len(self.names))


def _main(outputs: Iterable[Outputs]) -> Iterator[Floats]:
    return (each[OUTPUT] for each in outputs)
