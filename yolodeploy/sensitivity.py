"""What compressing one layer alone costs, measured on the output of the whole model.

The cost of a layer is the relative noise that its compression adds to the output: that of the
scores plus that of the boxes. Noise of independent sources adds up, so the sum over layers
estimates a whole model, which is what the steps that choose layers by themselves rely on. As a
level it is the signal-to-quantization-noise ratio, SQNR = -10 log10(noise) in decibels.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.backend import Artifact, Context, Predictor, Probe, Trial
from yolodeploy.digest import file_digest
from yolodeploy.errors import StepFailed

if TYPE_CHECKING:
    from yolodeploy.dataset import Dataset
    from yolodeploy.detect import Floats

REVISION = 2
IMAGES = 4  # layers differ by 20 dB and more; more images change the order of near ties only
_TINY = 1e-12
ANCHORS = 100  # the best of an image: those that can become detections

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


def measure(
    probe: Probe,
    artifact: Artifact,
    opened: Open,
    view: Dataset,
    context: Context,
    images: int = IMAGES,
) -> tuple[Cost, ...]:
    """The cost of every trial, against the float `artifact`, on a few images spread over `view`.

    Each cost is kept in the store, so that a later run measures only what is new.
    """
    bench = _Bench(probe, artifact, opened, view.spread(images), context)
    return tuple(bench.costs())


class _Bench:
    """The float outputs, computed when first needed, and the trials held against them."""

    def __init__(
        self, probe: Probe, artifact: Artifact, opened: Open, view: Dataset, context: Context
    ) -> None:
        self._probe, self._artifact, self._open = probe, artifact, opened
        self._view, self._context = view, context
        self._float: list[Floats] = []
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
            noise = output_noise(self._float, self._outputs(self._open(compressed)))
        if not math.isfinite(noise):
            raise StepFailed(
                f"with {trial.layer} compressed alone ({trial.scheme}) the output is not finite. Name "
                "the layer in `keep_float`, and report it with the recipe."
            )
        return noise

    def _outputs(self, predict: Predictor) -> Iterator[Floats]:
        for image in self._view.letterboxed(self._context.imgsz):
            yield predict(image)[0]


@contextlib.contextmanager
def alone(probe: Probe, trial: Trial, format_: str, context: Context) -> Iterator[Artifact]:
    """The artifact in which only the trial's layer is compressed; gone afterwards."""
    folder = context.work / "alone"
    folder.mkdir()
    try:
        probe.write(trial, folder)
        yield Artifact(format_, folder, "")
    finally:
        shutil.rmtree(folder)


def output_noise(reference: Iterable[Floats], compressed: Iterable[Floats]) -> float:
    """Relative noise power of raw outputs `[4 + classes, anchors]`, scores plus boxes.

    Scores: the sum of squared differences over the sum of squares. Boxes: the squared shift of
    the corners over the area of the box, averaged over the best anchors of each image by score,
    because boxes of anchors that detect nothing are arbitrary. An area counts as a square pixel
    at least.
    """
    noise, power, shift, weight = 0.0, 0.0, 0.0, 0.0
    for wanted, got in zip(reference, compressed, strict=True):
        exact, close = wanted.astype(np.float64), got.astype(np.float64)
        noise += float(((close[4:] - exact[4:]) ** 2).sum())
        power += float((exact[4:] ** 2).sum())
        scores = exact[4:].max(0)
        best = np.argsort(-scores, kind="stable")[:ANCHORS]
        squares = ((_corners(close[:4, best]) - _corners(exact[:4, best])) ** 2).mean(0)
        shift += float((scores[best] * squares / exact[2:4, best].prod(0).clip(1)).sum())
        weight += float(scores[best].sum())
    return noise / max(power, _TINY) + shift / max(weight, _TINY)


def _corners(boxes: Any) -> Any:
    """Left, top, right, bottom `[4, n]` from centre and size `[4, n]`."""
    return np.concatenate([boxes[:2] - boxes[2:] / 2, boxes[:2] + boxes[2:] / 2])
