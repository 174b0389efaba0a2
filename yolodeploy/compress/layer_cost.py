"""What compressing one layer alone costs, measured on the output of the whole model.

The cost of a layer is the relative noise that its compression adds to the output: that of the
scores plus that of the boxes. Noise from independent sources adds up, so the sum over layers
estimates the cost of compressing them all, which the automatic choice of layers relies on. As a
level it is the signal-to-quantization-noise ratio, SQNR = -10 log10(noise) in decibels.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.backend import (
    Artifact,
    Context,
    Predictor,
    Probe,
    Trial,
    batch_of,
    layout_of,
    named_outputs,
)
from yolodeploy.errors import StepFailed
from yolodeploy.system import file_digest
from yolodeploy.tasks import Task, task_of

if TYPE_CHECKING:
    from yolodeploy.backend import Outputs
    from yolodeploy.data import Dataset

REVISION = 2
IMAGES = 4  # layers differ by 20 dB and more; more images only change the order of near ties

Open = Callable[[Artifact], Predictor]


@dataclass(frozen=True)
class Cost:
    """The relative noise power that one trial adds to the output; 0 where it changes nothing."""

    trial: Trial
    noise: float

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels; infinite without noise."""
        return -10 * math.log10(self.noise) if self.noise else math.inf


def measure_layers(
    probe: Probe,
    artifact: Artifact,
    opened: Open,
    view: Dataset,
    context: Context,
    images: int = IMAGES,
) -> tuple[Cost, ...]:
    """The cost of every trial, compared with the float `artifact` on `images` spread over `view`.

    `opened` opens an artifact. Each cost is kept in the store, so that a later run measures only what
    is new. Raises StepFailed for an output that is not finite.
    """
    return tuple(_Measurement(probe, artifact, opened, view.spread(images), context).costs())


class _Measurement:
    """Compares the output of every trial with the float output, computed once if at all."""

    def __init__(
        self, probe: Probe, artifact: Artifact, opened: Open, view: Dataset, context: Context
    ) -> None:
        self._probe, self._artifact, self._open = probe, artifact, opened
        self._view, self._context = view, context
        self._task: Task[Any, Any] = task_of(context.model)
        self._float: list[Outputs] = []
        self._exact = opened(artifact)
        self._key = {
            "sensitivity": REVISION,
            "runtime": asdict(self._exact.runtime),
            "probe": dict(probe.key),
            "images": [file_digest(image) for image in view.images],
        }

    def costs(self) -> Iterator[Cost]:
        trials = self._probe.trials
        for number, trial in enumerate(trials):
            self._context.progress(number / len(trials), f"{number}/{len(trials)} layers alone")
            key = {**self._key, "trial": asdict(trial)}
            yield Cost(trial, self._context.memo(key, partial(self._noise, trial)))

    def _noise(self, trial: Trial) -> float:
        if not self._float:
            self._float = list(self._outputs(self._exact))
        with alone(self._probe, trial, self._artifact.format, self._context) as compressed:
            outputs = self._outputs(self._open(compressed))
            noise = self._task.noise(self._float, outputs, layout_of(self._exact))
        if not math.isfinite(noise):
            raise StepFailed(
                f"with {trial.layer} compressed alone ({trial.scheme}) the output is not finite. Name "
                "the layer in `keep_float`, and report it with the recipe."
            )
        return noise

    def _outputs(self, predict: Predictor) -> Iterator[Outputs]:
        images = self._view.letterboxed(self._context.imgsz)
        while batch := list(itertools.islice(images, batch_of(predict))):
            found = named_outputs(predict(np.concatenate(batch)), self._task.outputs)
            for place in range(len(batch)):
                yield {name: output[place] for name, output in found.items()}


@contextlib.contextmanager
def alone(probe: Probe, trial: Trial, format_: str, context: Context) -> Iterator[Artifact]:
    """Write the artifact in which only the trial's layer is compressed; remove it afterwards."""
    folder = context.work / "alone"
    folder.mkdir()
    try:
        probe.write(trial, folder)
        yield Artifact(format_, folder, "")
    finally:
        shutil.rmtree(folder)
