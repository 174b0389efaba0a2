"""The task "classify": one class for a whole image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.classify.accuracy import (
    NO_IMAGES,
    accuracy_curve,
    against_labels,
    right,
    share,
)
from yolodeploy.tasks.classify.contract import OUTPUT_TEXT, PROBABILITIES
from yolodeploy.tasks.classify.probabilities import (
    Floats,
    best_classes,
    class_marks,
    divergence,
    log_noise,
    overlap,
    probability_fault,
)
from yolodeploy.tasks.measures import Curve, Key, Measure
from yolodeploy.tasks.shapes import Marks, Shape, shapes_of
from yolodeploy.tasks.thresholds import BEST_CLASSES, Rules, app_rules, evaluation_rules

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed


@dataclass(frozen=True)
class Classify:
    """Classification by a model of these classes.

    A truth is the class index of an image. What was found are the probabilities of all classes, float32 `[classes]`.
    """

    names: tuple[str, ...]

    name: ClassVar[str] = "classify"
    scores: ClassVar[tuple[Key, ...]] = (Key.TOP1, Key.TOP5)
    primary: ClassVar[Key] = Key.TOP1
    outputs: ClassVar[tuple[str, ...]] = (OUTPUT,)
    evaluation: ClassVar[Rules] = evaluation_rules("classify")
    app: ClassVar[Rules] = app_rules("classify")

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> int:  # noqa: ARG002
        """The class index of an image; its size does not matter."""
        return view.class_of(image)

    def found(
        self,
        outputs: Outputs,
        rules: Rules,  # noqa: ARG002
        box: Letterboxed,  # noqa: ARG002
        layout: Layout,  # noqa: ARG002
    ) -> Floats:
        """The probabilities `[classes]`."""
        return np.array(outputs[OUTPUT], np.float32).reshape(-1)

    def count(self, found: Floats) -> int:  # noqa: ARG002
        """1: every image has a class."""
        return 1

    def objects(self, truth: int) -> int:  # noqa: ARG002
        """1: every image has a class."""
        return 1

    def as_truth(self, found: Floats, image: int) -> int:  # noqa: ARG002
        """The most probable class."""
        return int(found.argmax())

    def score(self, truths: Sequence[int], found: Sequence[Floats]) -> float:
        """The top-1 accuracy; NaN without images."""
        return share(right(truths, found))

    def against_labels(
        self,
        truths: Sequence[int],
        source: Sequence[Floats],
        artifact: Sequence[Floats],
        confidence: float,
    ) -> Iterator[Measure]:
        """Top-1 and top-5 accuracy, then the accuracy of each class; drops of top-1 with intervals."""
        return against_labels(self.names, truths, source, artifact, confidence)

    def agreement(
        self, source: Sequence[Floats], artifact: Sequence[Floats]
    ) -> tuple[Measure, ...]:
        """How far the probabilities diverge, in nats. How often the classes agree is the fidelity."""
        if not len(source):
            return (Measure(Key.DIVERGENCE, None, None, False, reason=NO_IMAGES),)
        apart = divergence(np.stack(source), np.stack(artifact))
        return (Measure(Key.DIVERGENCE, None, apart, False, count=len(source)),)

    def differences(
        self,
        source: Outputs,
        artifact: Outputs,
        layout: Layout,  # noqa: ARG002
    ) -> Mapping[str, Floats]:
        """Absolute differences of the probabilities."""
        return {"probabilities": abs(artifact[OUTPUT] - source[OUTPUT])}

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:  # noqa: ARG002
        """Why finite numbers are not the probabilities of classes; None if they are."""
        return probability_fault(outputs[OUTPUT])

    def noise(
        self,
        reference: Iterable[Outputs],
        compressed: Iterable[Outputs],
        layout: Layout,  # noqa: ARG002
    ) -> float:
        """Relative noise power of the logits; see `log_noise`."""
        return log_noise(
            (outputs[OUTPUT] for outputs in reference), (outputs[OUTPUT] for outputs in compressed)
        )

    def save(self, file: Path, found: Sequence[Floats]) -> None:
        """Write the probabilities of several images as one .npz file."""
        table = np.stack(found) if len(found) else np.zeros((0, len(self.names)))
        np.savez(file, probabilities=table.astype(np.float32))

    def load(self, file: Path) -> list[Floats]:
        """Read what `save` wrote, image by image."""
        with np.load(file) as data:
            return list(data["probabilities"])

    def output_text(self, rules: Rules, layout: Layout) -> str:  # noqa: ARG002
        """What the output is."""
        return OUTPUT_TEXT

    def golden(self, found: Floats) -> Mapping[str, Any]:
        """The five most probable classes, best first; the output is neither of anchors nor of rows."""
        return {
            "layout": PROBABILITIES,
            "classes": [
                self._plain(found, cls) for cls in best_classes(found, BEST_CLASSES).tolist()
            ],
        }

    def confident(self, found: Floats) -> Floats:
        """All: every image has a class."""
        return found

    def shapes(self, found: Floats) -> tuple[Shape, ...]:
        """The five most probable classes."""
        best = best_classes(found, BEST_CLASSES)
        return shapes_of(self.names, best, found[best], [()] * len(best))

    def truth_shapes(self, truth: int) -> tuple[Shape, ...]:
        """The class."""
        return shapes_of(self.names, np.array([truth]), None, [()])

    def marks(self, source: Floats, artifact: Floats) -> Marks:
        """Whether the most probable class changed."""
        return class_marks(best_classes(source, BEST_CLASSES), best_classes(artifact, BEST_CLASSES))

    def image_fidelity(
        self, _truths: Sequence[int], source: Sequence[Floats], artifact: Sequence[Floats]
    ) -> list[float | None]:
        """The share of the probability that both give to the same classes."""
        return [overlap(*pair) for pair in zip(source, artifact, strict=True)]

    def curves(self, truths: Sequence[int], found: Sequence[Floats]) -> Mapping[str, Curve] | None:
        """The top-1 accuracy of the images at or above a confidence, and their share."""
        return accuracy_curve(right(truths, found), found) if len(truths) else None

    def _plain(self, found: Floats, cls: int) -> dict[str, Any]:
        return {
            "class": cls,
            "name": self.names[cls],
            "probability": round(float(found[cls]), 6),
        }
