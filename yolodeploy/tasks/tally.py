"""What an artifact loses, from what source and artifact found on the same images.

Against the labels: the scores of both, and the drop with its interval, by class and by object size. Without labels:
fidelity, the score of what the artifact found against what the source model found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Dataset
from yolodeploy.errors import DataError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy.tasks.comparison import known_or_reason
from yolodeploy.tasks.evaluate import Run, Seen, evaluate
from yolodeploy.tasks.measures import USUAL, Key, Measure

if TYPE_CHECKING:
    from yolodeploy.backend import Outputs
    from yolodeploy.tasks.task import Task

UNLABELLED = "the evaluation images have no labels"


@dataclass
class Differences:
    """Running maximum and mean of the absolute differences of outputs."""

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, difference: NDArray[np.float32]) -> None:
        """Add one image's absolute differences."""
        self.maximum = max(self.maximum, float(difference.max(initial=0)))
        self.total += float(difference.sum(dtype="float64"))
        self.count += difference.size

    def measures(self, group: str, images: int) -> tuple[Measure, Measure]:
        """Maximum and mean of so many images."""
        values = round(self.maximum, 6), round(self.total / max(self.count, 1), 9)
        keys = Key.OUTPUT_DIFF, Key.OUTPUT_DIFF_MEAN
        largest, mean = (
            Measure(key, None, value, higher_is_better=False, group=group, count=images)
            for key, value in zip(keys, values, strict=True)
        )
        return largest, mean


@dataclass
class Tally:
    """What is kept of each image: labels, findings and differences, but no pixels.

    `compared` is the number of images whose raw outputs were compared, `differences` those by kind.
    """

    task: Task[Any, Any]
    truths: list[Any] = field(default_factory=list)
    source: list[Any] = field(default_factory=list)
    artifact: list[Any] = field(default_factory=list)
    differences: dict[str, Differences] = field(default_factory=dict)
    compared: int = 0

    def add(self, seen: Seen, source: Outputs | None = None) -> None:
        """Add an image that the artifact, the last of the models, was run on.

        `source` has the source model's outputs, if the two are compared on this image.
        """
        self.truths.append(seen.truth)
        self.artifact.append(seen.found(-1))
        if source is not None:
            found = self.task.differences(source, seen.outputs[-1], seen.layouts[-1])
            for group, difference in found.items():
                self.differences.setdefault(group, Differences()).add(difference)
            self.compared += 1

    def output_measures(self) -> Iterator[Measure]:
        """Differences of the outputs: of all, and of each kind."""
        kinds = self.differences.values()
        every = Differences(
            max((kind.maximum for kind in kinds), default=0.0),
            sum(kind.total for kind in kinds),
            sum(kind.count for kind in kinds),
        )
        named: Mapping[str, Differences] = {"": every, **self.differences}
        for group, differences in named.items():
            yield from differences.measures(group, self.compared)

    def fidelity(self) -> tuple[Measure, ...]:
        """How well the artifact finds what the source model finds, which needs no labels."""
        pairs = zip(self.source, self.truths, strict=True)
        truths = [self.task.as_truth(found, truth) for found, truth in pairs]
        value = self.task.score(truths, self.artifact)
        more = tuple(self.task.agreement(self.source, self.artifact))
        if math.isnan(value):
            confidence = self.task.app.confidence
            reason = f"the source model finds nothing with a confidence above {confidence}"
            return Measure(Key.FIDELITY, None, None, reason=reason), *more
        count = sum(map(self.task.objects, truths))
        return Measure(Key.FIDELITY, None, value, count=count), *more


def primary_score(
    model: Run, view: Dataset, imgsz: ImageShape, task: Task[Any, Any], head: Head
) -> float:
    """The primary measure of an opened artifact on labelled images; NaN without labels.

    `head` is the one that gives its outputs.
    """
    tally = Tally(task)
    for seen in evaluate(view, imgsz, [model], task=task, head=head):
        tally.add(seen)
    return task.score(tally.truths, tally.artifact)


def accuracy(tally: Tally, *, labelled: bool, confidence: float = USUAL) -> tuple[Measure, ...]:
    """Everything that a report says about accuracy, drops with intervals of the given confidence."""
    task = tally.task
    if labelled:
        scored = task.against_labels(tally.truths, tally.source, tally.artifact, confidence)
    else:
        scored = (Measure(key, None, None, reason=UNLABELLED) for key in task.scores)
    return (*scored, *tally.fidelity(), *tally.output_measures())


def scores(tally: Tally, *, labelled: bool) -> tuple[Measure, ...]:
    """The primary measure and the fidelity of the artifact alone."""
    fidelity = tally.fidelity()[0]
    if not labelled:
        return Measure(tally.task.primary, None, None, reason=UNLABELLED), fidelity
    value = tally.task.score(tally.truths, tally.artifact)
    return known_or_reason(tally.task.primary, None, value, "an object"), fidelity


def required_score(value: float, view: str) -> float:
    """Return a float model's primary measure, the baseline of compressed forms; DataError if it is no baseline."""
    if math.isnan(value):
        raise DataError(f"no {view} image has a labelled object, so no drop can be measured.")
    if value == 0:
        raise DataError(
            f"the float model finds none of the labelled objects of the {view} images, so no drop "
            "can be measured: wrong weights, labels or imgsz?"
        )
    return value
