"""Instance segmentation as a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.tasks.average_precision import mean_precision
from yolodeploy.tasks.comparison import against_labels, image_fidelity, of_boxes
from yolodeploy.tasks.curves import curves_of
from yolodeploy.tasks.detection import main_part, part_differences, rows_fault
from yolodeploy.tasks.matching import Matches
from yolodeploy.tasks.measures import Curve, Key, Measure
from yolodeploy.tasks.segment.contract import COEFFICIENTS, segment_output_text
from yolodeploy.tasks.segment.found import (
    Segments,
    load_segments,
    save_segments,
    segments,
)
from yolodeploy.tasks.segment.labels import SegmentTruth, paint
from yolodeploy.tasks.segment.matching import as_truth, box_matches, mask_matches
from yolodeploy.tasks.segment.noise import segment_noise
from yolodeploy.tasks.segment.outlines import mask_outlines
from yolodeploy.tasks.shapes import Marks, Shape, box_outlines, marks_of, shapes_of
from yolodeploy.tasks.thresholds import APP, EVALUATION, Rules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed


@dataclass(frozen=True)
class Segment:
    """Finds masks. The outputs are anchors `[4 + classes + 32, anchors]` or rows `[k, 38]`, and prototypes `[32, H/4, W/4]`."""

    names: tuple[str, ...]

    name: ClassVar[str] = "segment"
    scores: ClassVar[tuple[Key, ...]] = (
        Key.MASK_MAP50_95,
        Key.MASK_MAP50,
        Key.MAP50_95,
        Key.MAP50,
    )
    primary: ClassVar[Key] = Key.MASK_MAP50_95
    outputs: ClassVar[tuple[str, ...]] = (OUTPUT, PROTOTYPES)
    evaluation: ClassVar[Rules] = EVALUATION
    app: ClassVar[Rules] = APP

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> SegmentTruth:
        """The labelled polygons as masks, see `paint`."""
        return paint(view.polygons(image), width, height)

    def found(self, outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Segments:
        """The objects in an image, with masks of its size."""
        return segments(outputs, rules, box, layout)

    def count(self, found: Segments) -> int:
        """How many objects were found."""
        return len(found)

    def objects(self, truth: SegmentTruth) -> int:
        """How many objects are labelled; those without a pixel do not count."""
        return int((truth.masks.areas > 0).sum())

    def as_truth(self, found: Segments, _image: SegmentTruth) -> SegmentTruth:
        """Confident objects as labels; masks without a pixel are none."""
        return as_truth(found)

    def agreement(
        self, _source: Sequence[Segments], _artifact: Sequence[Segments]
    ) -> tuple[Measure, ...]:
        """Nothing: fidelity says it."""
        return ()

    def score(self, truths: Sequence[SegmentTruth], found: Sequence[Segments]) -> float:
        """The mAP50-95 of the masks."""
        return mean_precision(self._matches(truths, found))

    def against_labels(
        self,
        truths: Sequence[SegmentTruth],
        source: Sequence[Segments],
        artifact: Sequence[Segments],
        confidence: float,
    ) -> Iterator[Measure]:
        """AP of the masks of both models, by object size and by class, and of their boxes."""
        models, classes = (source, artifact), len(self.names)
        before, after = (self._matches(truths, found) for found in models)
        overall, at50, *_ = self.scores
        yield from against_labels(before, after, self.names, confidence, overall=overall, at50=at50)
        before, after = (box_matches(truths, found, classes) for found in models)
        yield from of_boxes(before, after)

    def differences(
        self, source: Outputs, artifact: Outputs, layout: Layout
    ) -> Mapping[str, NDArray[np.float32]]:
        """Differences of boxes (px), scores, coefficients and prototypes; rows are paired as those of a detector."""
        boxes, scores, coefficients = part_differences(
            source[OUTPUT], artifact[OUTPUT], layout, COEFFICIENTS
        )
        maps = abs(artifact[PROTOTYPES] - source[PROTOTYPES])
        return {
            "boxes_px": boxes,
            "scores": scores,
            "coefficients": coefficients,
            "prototypes": maps,
        }

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:
        """What is wrong with rows."""
        if layout != "rows":
            return None
        return rows_fault(main_part(outputs[OUTPUT], layout, COEFFICIENTS), len(self.names))

    def noise(
        self, reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
    ) -> float:
        """The noise of scores, boxes, coefficients and prototypes."""
        return segment_noise(reference, compressed, layout)

    def save(self, file: Path, found: Sequence[Segments]) -> None:
        """Write boxes, scores, classes and packed masks."""
        save_segments(file, found)

    def load(self, file: Path) -> list[Segments]:
        """Read what `save` wrote."""
        return load_segments(file)

    def output_text(self, rules: Rules, layout: Layout) -> str:
        """What the main output is."""
        return segment_output_text(rules, layout)

    def golden(self, found: Segments) -> Mapping[str, Any]:
        """Objects, best first, each with its mask as COCO writes it."""
        rows = zip(
            found.classes.tolist(),
            found.scores.tolist(),
            found.boxes.tolist(),
            found.masks.coco(),
            found.masks.areas.tolist(),
            strict=True,
        )
        return {
            "detections": [
                {
                    "class": cls,
                    "score": round(score, 6),
                    "box": [round(edge, 3) for edge in edges],
                    "mask": {**mask, "area": int(area)},
                }
                for cls, score, edges, mask, area in rows
            ]
        }

    def confident(self, found: Segments) -> Segments:
        """Those with the confidence that an app asks for."""
        return found.take(np.flatnonzero(found.scores > APP.confidence))

    def shapes(self, found: Segments) -> tuple[Shape, ...]:
        """Masks; of one without a pixel its box."""
        outlines = mask_outlines(found.masks)
        boxes = box_outlines(found.boxes)
        shown = (outline or box for outline, box in zip(outlines, boxes, strict=True))
        return shapes_of(self.names, found.classes, found.scores, shown)

    def truth_shapes(self, truth: SegmentTruth) -> tuple[Shape, ...]:
        """The labelled masks; of one without a pixel nothing but the class."""
        return shapes_of(self.names, truth.classes, None, mask_outlines(truth.masks))

    def marks(self, source: Segments, artifact: Segments) -> Marks:
        """What both share, by IoU of the masks."""
        return marks_of(source.classes, artifact.classes, source.masks.iou(artifact.masks))

    def image_fidelity(
        self,
        truths: Sequence[SegmentTruth],
        source: Sequence[Segments],
        artifact: Sequence[Segments],
    ) -> list[float | None]:
        """The AP of either's masks against the other's, see `comparison.image_fidelity`."""
        return image_fidelity(self._matches, self.as_truth, truths, source, artifact)

    def curves(
        self, truths: Sequence[SegmentTruth], found: Sequence[Segments]
    ) -> Mapping[str, Curve] | None:
        """Precision and recall of the masks at an IoU of 0.5."""
        return curves_of(self._matches(truths, found))

    def _matches(self, truths: Sequence[SegmentTruth], found: Sequence[Segments]) -> Matches:
        return mask_matches(truths, found, len(self.names))
