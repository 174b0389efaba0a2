"""Pose estimation as a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.average_precision import mean_precision
from yolodeploy.tasks.comparison import against_labels, image_fidelity, of_boxes
from yolodeploy.tasks.curves import curves_of
from yolodeploy.tasks.detection import (
    corners_of,
    load_found,
    main_part,
    part_differences,
    rows_fault,
    save_found,
)
from yolodeploy.tasks.matching import Matches
from yolodeploy.tasks.measures import Curve, Key, Measure
from yolodeploy.tasks.pose.contract import pose_output_text
from yolodeploy.tasks.pose.found import Poses, poses
from yolodeploy.tasks.pose.matching import (
    LABELLED,
    PoseTruth,
    as_truth,
    box_matches,
    pose_matches,
    read_poses,
    similarity,
)
from yolodeploy.tasks.pose.noise import pose_noise
from yolodeploy.tasks.pose.skeletons import with_skeletons
from yolodeploy.tasks.shapes import Marks, Shape, box_outlines, marks_of, shapes_of
from yolodeploy.tasks.thresholds import APP, EVALUATION, Rules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed


@dataclass(frozen=True)
class Pose:
    """Finds poses. The output is anchors `[4 + classes + K * D, anchors]` or rows `[k, 6 + K * D]`.

    `kpt_shape` is (K, D): how many keypoints each object has, and how many numbers each: x, y, and visibility if D is 3.
    """

    names: tuple[str, ...]
    kpt_shape: tuple[int, int]

    name: ClassVar[str] = "pose"
    scores: ClassVar[tuple[Key, ...]] = (
        Key.POSE_MAP50_95,
        Key.POSE_MAP50,
        Key.MAP50_95,
        Key.MAP50,
    )
    primary: ClassVar[Key] = Key.POSE_MAP50_95
    outputs: ClassVar[tuple[str, ...]] = (OUTPUT,)
    evaluation: ClassVar[Rules] = EVALUATION
    app: ClassVar[Rules] = APP

    @property
    def extras(self) -> int:
        """How many numbers the keypoints of an object are."""
        return self.kpt_shape[0] * self.kpt_shape[1]

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> PoseTruth:
        """The labelled poses."""
        return read_poses(view.poses(image), self.kpt_shape[0], width, height)

    def found(self, outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Poses:
        """The poses in an image."""
        return poses(outputs[OUTPUT], self.kpt_shape, rules, box, layout)

    def count(self, found: Poses) -> int:
        """How many objects were found."""
        return len(found)

    def objects(self, truth: PoseTruth) -> int:
        """How many objects have a labelled keypoint."""
        return int(truth.labelled.sum())

    def as_truth(self, found: Poses, _image: PoseTruth) -> PoseTruth:
        """Confident poses as labels, of their keypoints those with a visibility above 0.5."""
        return as_truth(found)

    def agreement(
        self, _source: Sequence[Poses], _artifact: Sequence[Poses]
    ) -> tuple[Measure, ...]:
        """Nothing: fidelity says it."""
        return ()

    def score(self, truths: Sequence[PoseTruth], found: Sequence[Poses]) -> float:
        """The mAP50-95 of the poses, by OKS."""
        return mean_precision(self._matches(truths, found))

    def against_labels(
        self,
        truths: Sequence[PoseTruth],
        source: Sequence[Poses],
        artifact: Sequence[Poses],
        confidence: float,
    ) -> Iterator[Measure]:
        """AP of the poses of both models, by object size and by class, and of their boxes."""
        models, classes = (source, artifact), len(self.names)
        before, after = (self._matches(truths, found) for found in models)
        overall, at50, *_ = self.scores
        yield from against_labels(before, after, self.names, confidence, overall=overall, at50=at50)
        before, after = (box_matches(truths, found, classes) for found in models)
        yield from of_boxes(before, after)

    def differences(
        self, source: Outputs, artifact: Outputs, layout: Layout
    ) -> Mapping[str, NDArray[np.float32]]:
        """Differences of boxes (px), scores, keypoints (px) and visibilities; rows are paired as those of a detector."""
        boxes, scores, extras = part_differences(
            source[OUTPUT], artifact[OUTPUT], layout, self.extras
        )
        each = extras if layout == "rows" else extras.T
        points = each.reshape(-1, *self.kpt_shape)
        visible = {"visibilities": points[..., 2]} if self.kpt_shape[1] == 3 else {}
        return {"boxes_px": boxes, "scores": scores, "keypoints_px": points[..., :2], **visible}

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:
        """What is wrong with rows."""
        if layout != "rows":
            return None
        return rows_fault(main_part(outputs[OUTPUT], layout, self.extras), len(self.names))

    def noise(
        self, reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
    ) -> float:
        """The noise of scores, boxes, keypoints and visibilities."""
        return pose_noise(reference, compressed, layout, self.kpt_shape)

    def save(self, file: Path, found: Sequence[Poses]) -> None:
        """Write boxes, scores, classes and keypoints."""
        save_found(file, Poses, found)

    def load(self, file: Path) -> list[Poses]:
        """Read what `save` wrote."""
        return load_found(file, Poses)

    def output_text(self, rules: Rules, layout: Layout) -> str:
        """What the main output is."""
        return pose_output_text(rules, layout, self.kpt_shape)

    def golden(self, found: Poses) -> Mapping[str, Any]:
        """Objects, best first, each with its keypoints: x, y and visibility."""
        rows = zip(
            found.classes.tolist(),
            found.scores.tolist(),
            found.boxes.tolist(),
            found.keypoints.tolist(),
            strict=True,
        )
        return {
            "detections": [
                {
                    "class": cls,
                    "score": round(score, 6),
                    "box": [round(edge, 3) for edge in edges],
                    "keypoints": [[round(x, 3), round(y, 3), round(v, 6)] for x, y, v in points],
                }
                for cls, score, edges, points in rows
            ]
        }

    def confident(self, found: Poses) -> Poses:
        """Those with the confidence that an app asks for."""
        return found.take(np.flatnonzero(found.scores > APP.confidence))

    def shapes(self, found: Poses) -> tuple[Shape, ...]:
        """Boxes with the keypoints that are rather visible than not."""
        boxes = shapes_of(self.names, found.classes, found.scores, box_outlines(found.boxes))
        return with_skeletons(boxes, found.keypoints, LABELLED)

    def truth_shapes(self, truth: PoseTruth) -> tuple[Shape, ...]:
        """The labelled boxes with their labelled keypoints."""
        outlines = box_outlines(corners_of(truth.boxes))
        return with_skeletons(
            shapes_of(self.names, truth.classes, None, outlines), truth.keypoints, 0
        )

    def marks(self, source: Poses, artifact: Poses) -> Marks:
        """What both share, by OKS."""
        return marks_of(source.classes, artifact.classes, similarity(source, artifact))

    def image_fidelity(
        self, truths: Sequence[PoseTruth], source: Sequence[Poses], artifact: Sequence[Poses]
    ) -> list[float | None]:
        """The AP of either's poses against the other's, see `comparison.image_fidelity`."""
        return image_fidelity(self._matches, self.as_truth, truths, source, artifact)

    def curves(
        self, truths: Sequence[PoseTruth], found: Sequence[Poses]
    ) -> Mapping[str, Curve] | None:
        """Precision and recall of the poses at an OKS of 0.5."""
        return curves_of(self._matches(truths, found))

    def _matches(self, truths: Sequence[PoseTruth], found: Sequence[Poses]) -> Matches:
        return pose_matches(truths, found, len(self.names))
