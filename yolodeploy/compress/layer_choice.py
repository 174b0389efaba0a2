"""Choosing the layers to compress, so that the whole model stays within a budget.

Both searches start from what every layer costs alone (`measure_layers`), then measure the layers that
they chose together: `within_noise` on the noise of the output, which adds up over layers and is
cheap to measure; `within_drop` on the score itself, which needs labels and does not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolodeploy.backend import Probe, Trial
from yolodeploy.compress.layer_cost import Cost
from yolodeploy.errors import PlanRefused

_ROUNDS = 5
_MOST_DOMINANT = 3  # layers that stay float because they alone cost most
_MOST_FLOAT = 0.5  # of the layers; with more in float the model is hardly an int8 model any more


@dataclass(frozen=True)
class Candidates:
    """The layers to choose from, and what a backend can do with a choice.

    `probe` has one trial per layer; `write` writes the artifact in which all of the named layers are
    compressed; `measure` gives the cost of every trial of a probe. `work` is what compressing a layer
    saves, by name (left out: the same for all), and `least_share` the part of it that every choice
    saves. `margin` is how far below the budget the next choice aims after one that misses.
    """

    probe: Probe
    write: Callable[[Collection[str], Path], None]
    measure: Callable[[Probe], Sequence[Cost]]
    work: Mapping[str, float] = field(default_factory=dict)
    least_share: float = 0.0
    margin: float = 0.9

    def together(self, names: Collection[str]) -> Cost:
        """The cost of compressing all of these layers at once."""
        trial = Trial(f"{len(names)} layers", "all", self.probe.trials[0].scheme, 0)
        key = {**self.probe.key, "layers": sorted(names)}
        (cost,) = self.measure(Probe((trial,), lambda _, folder: self.write(names, folder), key))
        return cost


def within_noise(min_sqnr: float, layers: Candidates, advice: str) -> tuple[str, ...]:
    """Names of the layers to compress so that the output keeps an SQNR of `min_sqnr` decibels.

    Chosen by the sum of single costs, then measured together; a choice that misses makes the next
    one aim lower. In the order of the trials. Raises PlanRefused with the best SQNR that was reached
    and the backend's `advice`.
    """
    alone = layers.measure(layers.probe)
    aim = limit = 10 ** (-min_sqnr / 10)
    least = cheapest(alone, 0, layers.work, layers.least_share)
    tried: list[tuple[Cost, int]] = []
    while len(tried) < _ROUNDS:
        chosen = cheapest(alone, aim, layers.work, layers.least_share)
        if not chosen:
            tried.append((min(alone, key=lambda cost: cost.noise), 1))
            break
        cost = layers.together(chosen)
        if cost.noise <= limit:
            return chosen
        tried.append((cost, len(chosen)))
        if chosen == least:
            break
        aim *= layers.margin * limit / cost.noise
    best, count = min(tried, key=lambda found: found[0].noise)
    reached = f"{best.sqnr_db:.1f} dB, with {count} of {len(alone)} layers in {best.trial.scheme}"
    raise _unmet(f"min_sqnr: {min_sqnr:g}", reached, advice)


def cheapest(
    alone: Sequence[Cost], aim: float, work: Mapping[str, float], least_share: float = 0.0
) -> tuple[str, ...]:
    """Layers by rising noise for their work, while the sum of their noise is at most `aim`.

    At least `least_share` of the work is taken in any case. Returned in the order of `alone`.
    """
    saved = {cost.trial.layer: work.get(cost.trial.layer, 1.0) for cost in alone}
    order = sorted(alone, key=lambda cost: (cost.noise / saved[cost.trial.layer], cost.trial.layer))
    least = least_share * sum(saved.values())
    chosen: set[str] = set()
    noise, done = 0.0, 0.0
    for cost in order:
        noise += cost.noise
        if noise > aim and done >= least:
            break
        chosen.add(cost.trial.layer)
        done += saved[cost.trial.layer]
    return tuple(name for name in saved if name in chosen)


def dominant(alone: Sequence[Cost]) -> frozenset[str]:
    """The layers that each cost more noise than all cheaper ones together: three or a tenth of all at most.

    One such layer can take all that the others leave, and costs little time in floating point.
    """
    order = sorted(alone, key=lambda cost: (-cost.noise, cost.trial.layer))
    found = set[str]()
    for place, cost in enumerate(order[: min(_MOST_DOMINANT, len(order) // 10)]):
        if cost.noise <= sum(other.noise for other in order[place + 1 :]):
            break
        found.add(cost.trial.layer)
    return frozenset(found)


def within_drop(
    max_drop: float,
    layers: Collection[str],
    measure: Callable[[], Sequence[Cost]],
    drop: Callable[[frozenset[str]], float],
    where: str,
) -> frozenset[str]:
    """Names of the `layers` to leave in floating point so that the score drops by at most `max_drop`.

    Tries none, 1, 2, 4, ... of the costliest, up to half of the layers; `drop` compresses all but these
    and returns what the score loses, and `measure`, called once if ever, what each layer costs
    alone. Raises PlanRefused with the best that was reached on `where`, the images.
    """
    most = int(len(layers) * _MOST_FLOAT)
    drops: dict[int, float] = {}
    order: list[str] = []
    for count in sorted({0, most, *(2**power for power in range(most.bit_length()))}):
        if count and not order:
            costliest = sorted(measure(), key=lambda cost: -cost.noise)
            order = [cost.trial.layer for cost in costliest]
        kept = frozenset(order[:count])
        drops[count] = drop(kept)
        if drops[count] <= max_drop:
            return kept
    count, best = min(drops.items(), key=lambda item: item[1])
    raise _unmet(
        f"max_drop: {max_drop:g}",
        f"a drop of {best:.4f} on {where}, with {count} of the costliest layers in floating point "
        f"({most} is the most that is tried)",
        "Allow that much, or ship the float export.",
    )


def _unmet(setting: str, best: str, advice: str) -> PlanRefused:
    return PlanRefused(f"no choice of layers meets `{setting}`. The best was {best}. {advice}")
