"""What probabilities of classes say: the best classes, how far two models are apart, and whether they are probabilities."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from yolodeploy.tasks.shapes import Mark, Marks

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 1e-7  # below it 16-bit floats know nothing, so a difference there is none
_OFF = 1e-2  # from 1, that a probability or their sum may be: many classes, each rounded to 16 bits
_TINY = 1e-12


def best_classes(probabilities: Floats, count: int) -> Ints:
    """The most probable classes `[..., count]` of `[..., classes]`, best first; of equals the first."""
    order: Ints = np.argsort(-probabilities, axis=-1, kind="stable")[..., :count]
    return order


def probability_fault(probabilities: Floats) -> str | None:
    """What is wrong with finite probabilities `[classes]`, as the rest of a sentence; None if nothing is."""
    low, high = float(probabilities.min()), float(probabilities.max())
    if low < -_OFF or high > 1 + _OFF:
        return f"has values from {low:.4g} to {high:.4g}, but probabilities must lie in 0 to 1"
    total = float(probabilities.sum(dtype=np.float64))
    if abs(total - 1) > _OFF:
        return f"has values that sum up to {total:.4g}, but probabilities must sum up to 1"
    return None


def divergence(source: Floats, artifact: Floats) -> float:
    """The mean Kullback-Leibler divergence of the artifact's from the source's `[images, classes]`, in nats.

    D(p || q) = sum of p ln(p / q), where p and q are at least `FLOOR`, each divided by its sum: it is never negative,
    and an artifact that rounds a probability to 0 has not failed for that (Kullback and Leibler, "On information and
    sufficiency", 1951).
    """
    wanted, got = _floored(source), _floored(artifact)
    return float((wanted * np.log(wanted / got)).sum(axis=1).mean())


def overlap(source: Floats, artifact: Floats) -> float:
    """The share of the probability that both give to the same classes `[classes]`: 1 less their total variation."""
    shared = np.minimum(_floored(source), _floored(artifact)).sum()
    return round(float(shared), 6)


def class_marks(source: Ints, artifact: Ints) -> Marks:
    """Marks of the best classes of both, `[n]` each: the first are "changed" if they differ, the others have none."""
    rest = (None,) * (len(source) - 1)
    first: Mark | None = None if source[0] == artifact[0] else "changed"
    return Marks((first, *rest), (first, *rest))


def log_noise(reference: Iterable[Floats], compressed: Iterable[Floats]) -> float:
    """Relative noise power of the logits: squared differences over squares, both summed over all images.

    The logarithm of the probabilities (at least `FLOOR`), less its mean over the classes, is the logits but for a
    constant, which softmax ignores. Probabilities themselves would not do: of an image that a model is sure
    of, softmax hides what compression changes until the class is about to turn.
    """
    noise = power = 0.0
    for wanted, got in zip(reference, compressed, strict=True):
        exact, close = _logits(wanted), _logits(got)
        noise += float(((close - exact) ** 2).sum())
        power += float((exact**2).sum())
    return noise / max(power, _TINY)


def _floored(probabilities: Floats) -> Floats64:
    table = np.maximum(probabilities.astype(np.float64), FLOOR)
    result: Floats64 = table / table.sum(axis=-1, keepdims=True)
    return result


def _logits(probabilities: Floats) -> Floats64:
    table = np.log(np.maximum(probabilities.astype(np.float64), FLOOR))
    result: Floats64 = table - table.mean()
    return result
