"""What a task is: everything that the rest of the project asks about boxes, masks, poses, rotated boxes and classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Layout, Outputs
    from yolodeploy.data import Dataset, Letterboxed
    from yolodeploy.tasks.measures import Curve, Key, Measure
    from yolodeploy.tasks.shapes import Marks, Shape
    from yolodeploy.tasks.thresholds import Rules

    Floats = NDArray[np.float32]

Truth = TypeVar("Truth")  # what is labelled in one image, in pixels of the original
Found = TypeVar("Found")  # what a model found in one image, in pixels of the original


class Task(Protocol[Truth, Found]):
    """A task of one model, bound to its classes: a value without state."""

    @property
    def name(self) -> str:
        """Its name, as `ModelInfo` has it."""

    @property
    def scores(self) -> tuple[Key, ...]:
        """What it scores on labels; the first decides."""

    @property
    def primary(self) -> Key:
        """The measure that decides."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what a predictor returns."""

    @property
    def evaluation(self) -> Rules:
        """The thresholds of the evaluation."""

    @property
    def app(self) -> Rules:
        """The thresholds of an app."""

    def truth(self, view: Dataset, image: Path, width: int, height: int) -> Truth:
        """What is labelled in an image of this size in pixels."""

    def found(self, outputs: Outputs, rules: Rules, box: Letterboxed, layout: Layout) -> Found:
        """What the outputs of a model say of one image."""

    def count(self, found: Found) -> int:
        """How many objects were found; 1 for a class of the whole image."""

    def objects(self, truth: Truth) -> int:
        """How many objects are labelled; 1 for a class of the whole image."""

    def agreement(self, source: Sequence[Found], artifact: Sequence[Found]) -> Iterable[Measure]:
        """What else says how well the artifact agrees with the source model, beside fidelity."""

    def as_truth(self, found: Found, image: Truth) -> Truth:
        """What the source model found with the confidence that an app asks for, as labels of the same image."""

    def score(self, truths: Sequence[Truth], found: Sequence[Found]) -> float:
        """The primary measure in 0..1; NaN without labels."""

    def against_labels(
        self,
        truths: Sequence[Truth],
        source: Sequence[Found],
        artifact: Sequence[Found],
        confidence: float,
    ) -> Iterable[Measure]:
        """What source and artifact score on labels, drops with intervals of this confidence; the primary first."""

    def differences(
        self, source: Outputs, artifact: Outputs, layout: Layout
    ) -> Mapping[str, Floats]:
        """Absolute differences of raw outputs of one image by kind ("boxes_px", "scores"); `layout` is the artifact's."""

    def fault(self, outputs: Outputs, layout: Layout) -> str | None:
        """What is wrong with finite outputs of a right shape, as the rest of a sentence; None if nothing is."""

    def noise(
        self, reference: Iterable[Outputs], compressed: Iterable[Outputs], layout: Layout
    ) -> float:
        """Relative noise power that compression adds to outputs, over all images."""

    def save(self, file: Path, found: Sequence[Found]) -> None:
        """Write what was found in several images as one .npz file."""

    def load(self, file: Path) -> list[Found]:
        """Read what `save` wrote, image by image."""

    def output_text(self, rules: Rules, layout: Layout) -> str:
        """What the main output is, as the rest of a sentence."""

    def golden(self, found: Found) -> Mapping[str, Any]:
        """What was found in the golden image, as plain data that an app team can compare with its own."""

    def confident(self, found: Found) -> Found:
        """What was found with the confidence that an app asks for."""

    def shapes(self, found: Found) -> tuple[Shape, ...]:
        """What was found as shapes, best first; of a class of the whole image the best few."""

    def truth_shapes(self, truth: Truth) -> tuple[Shape, ...]:
        """What is labelled as shapes."""

    def marks(self, source: Found, artifact: Found) -> Marks:
        """Which of these findings in one image the two do not share, in the order of their shapes."""

    def image_fidelity(
        self, truths: Sequence[Truth], source: Sequence[Found], artifact: Sequence[Found]
    ) -> list[float | None]:
        """How well both agree in each image alone, in 0..1; None where neither finds anything with confidence."""

    def curves(self, truths: Sequence[Truth], found: Sequence[Found]) -> Mapping[str, Curve] | None:
        """What one model scores on labels as curves by name; None without labels."""
