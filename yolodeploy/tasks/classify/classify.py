"""The task "classify": one class for a whole image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from yolodeploy.backend import OUTPUT
from yolodeploy.tasks.classify.accuracy import NO_IMAGES, against_labels, right, share
from yolodeploy.tasks.classify.contract import OUTPUT_TEXT, PROBABILITIES
from yolodeploy.tasks.classify.drawing import draw_bars
from yolodeploy.tasks.classify.probabilities import (
    Floats,
    best_classes,
    divergence,
    log_noise,
    probability_fault,
)
from yolodeploy.tasks.measures import Key, Measure
from yolodeploy.tasks.thresholds import BEST_CLASSES, Rules, app_rules, evaluation_rules

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed, Pixels


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

    def draw(self, image: Pixels, found: Floats) -> Pixels:
        """The image with the five most probable classes as bars."""
        best = best_classes(found, BEST_CLASSES).tolist()
        return draw_bars(image, [(self.names[cls], float(found[cls])) for cls in best])

    def _plain(self, found: Floats, cls: int) -> dict[str, Any]:
        return {
            "class": cls,
            "name": self.names[cls],
            "probability": round(float(found[cls]), 6),
        }
