"""Which layers stay float, so that the model's output keeps a signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from yolodeploy.backend import Artifact, Context, Predictor, Probe, Trial
from yolodeploy.errors import PlanRefused
from yolodeploy.sensitivity import Cost, measure
from yolodeploy_ncnn.int8 import stride
from yolodeploy_ncnn.runtime import NcnnPredictor

if TYPE_CHECKING:
    from yolodeploy_ncnn.quantize import Quantizer

IMAGES = 2  # 4 give nearly the same order of layers and take twice as long
ROUNDS = 5
LEAST_SHARE = 0.5  # of the multiplications; with fewer in int8 there is little speed to gain


def within(
    budget: float, quantizer: Quantizer, artifact: Artifact, context: Context
) -> tuple[str, ...]:
    """Names of the layers that can compute in int8 with a ratio of at least `budget` dB.

    Costs of single layers add up, nearly: layers with the most noise for the time that int8 saves
    stay float until the sum of the others' is small enough; that setting is then measured, and
    where it misses the budget the next one aims lower, down to half of the multiplications in int8.
    Raises PlanRefused, with the best that was reached, if that misses it too.
    """

    def costs(probe: Probe) -> tuple[Cost, ...]:
        one_thread = replace(probe, key={**probe.key, "threads": 1})
        return measure(one_thread, artifact, _opened, view, context, IMAGES)

    view = quantizer.view
    alone = costs(quantizer.probe())
    work = multiplications(quantizer)
    aim = wanted = 10 ** (-budget / 10)
    tried: list[tuple[Cost, int]] = []
    while len(tried) < ROUNDS:
        chosen = cheapest(alone, work, aim)
        (cost,) = costs(_together(quantizer, chosen))
        if cost.noise <= wanted:
            return chosen
        tried.append((cost, len(chosen)))
        if chosen == cheapest(alone, work, 0):
            break
        aim *= 0.9 * wanted / cost.noise
    best, layers = min(tried, key=lambda found: found[0].noise)
    raise PlanRefused(
        f"`min_sqnr: {budget:g}` cannot be kept while int8 does at least half of the multiplications: the "
        f"best that was reached is {best.sqnr_db:.1f} dB, with {layers} of {len(work)} layers in int8. Ask "
        "for that, try another `method`, or use `w8`, which keeps float arithmetic."
    )


def cheapest(alone: Sequence[Cost], work: Mapping[str, float], aim: float) -> tuple[str, ...]:
    """Layers by rising noise for their work, while the sum of their noise is at most `aim`.

    At least half of the work is taken in any case. Returned in the order of `alone`.
    """
    order = sorted(alone, key=lambda cost: (cost.noise / work[cost.trial.layer], cost.trial.layer))
    least = LEAST_SHARE * sum(work[cost.trial.layer] for cost in alone)
    chosen: set[str] = set()
    noise, done = 0.0, 0.0
    for cost in order:
        noise += cost.noise
        if noise > aim and done >= least:
            break
        chosen.add(cost.trial.layer)
        done += work[cost.trial.layer]
    return tuple(cost.trial.layer for cost in alone if cost.trial.layer in chosen)


def multiplications(quantizer: Quantizer) -> dict[str, float]:
    """Multiplications of every layer for one image, by its name in the checkpoint."""
    found = {}
    for name, layer in quantizer.layers.items():
        kernel = quantizer.loaded.kernels[layer]
        pixels = quantizer.reads(layer).count / len(quantizer.view)
        strides = stride(kernel.layer)
        found[name] = kernel.count * pixels / (strides[0] * strides[1])
    return found


def _opened(made: Artifact) -> Predictor:
    """Run with one thread: the last bits of ncnn's int8 layers depend on how many there are."""
    return NcnnPredictor(made.path, 1)


def _together(quantizer: Quantizer, chosen: tuple[str, ...]) -> Probe:
    """One trial: all the chosen layers in int8."""
    key = {**quantizer.key, "layers": list(chosen)}
    trial = Trial(f"{len(chosen)} layers", "all", "int8", 0)
    return Probe((trial,), lambda _, folder: quantizer.write(chosen, folder), key)
