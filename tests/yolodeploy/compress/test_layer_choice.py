"""The search for layers under a budget: which it takes, what it measures, when it gives up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from yolodeploy.backend import Probe, Trial
from yolodeploy.compress.layer_choice import Candidates, cheapest, within_drop, within_noise
from yolodeploy.compress.layer_cost import Cost
from yolodeploy.errors import PlanRefused


def cost(name: str, noise: float) -> Cost:
    return Cost(Trial(name, "head", "int8", 1), noise)


def test_layers_that_cost_most_for_their_work_are_dropped_first() -> None:
    alone = [cost("big", 4.0), cost("small", 3.0), cost("cheap", 1.0)]
    work = {"big": 100.0, "small": 1.0, "cheap": 50.0}
    assert cheapest(alone, 8.0, work, 0.5) == ("big", "small", "cheap")
    assert cheapest(alone, 7.9, work, 0.5) == ("big", "cheap")
    assert cheapest(alone, 4.9, work, 0.5) == cheapest(alone, 0, work, 0.5) == ("big", "cheap")
    alone[0] = cost("big", 0.5)
    assert cheapest(alone, 1.4, work, 0.5) == cheapest(alone, 0, work, 0.5) == ("big",)


def test_without_work_the_cheapest_layers_are_taken() -> None:
    alone = [cost("a", 0.02), cost("b", 0.01), cost("c", 0.01)]
    assert cheapest(alone, 0.04, {}) == ("a", "b", "c")
    assert cheapest(alone, 0.039, {}) == ("b", "c")
    assert cheapest(alone, 0.01, {}) == ("b",)
    assert cheapest(alone, 0.009, {}) == ()


class Bench:
    """Layers of known noise; together they make `factor` times the sum of what they make alone."""

    def __init__(self, noises: Mapping[str, float], factor: float = 1.0, **wanted: float) -> None:
        self.noises, self.factor = noises, factor
        self.measured: list[list[str]] = []
        self.written: list[list[str]] = []
        trials = tuple(Trial(name, "head", "int8", 1) for name in noises)
        probe = Probe(trials, lambda trial, folder: self.write([trial.layer], folder))
        self.layers = Candidates(probe, self.write, self.measure, **wanted)

    def write(self, names: Collection[str], folder: Path) -> None:
        assert folder == Path("made")
        self.written.append(sorted(names))

    def measure(self, probe: Probe) -> tuple[Cost, ...]:
        if "layers" not in probe.key:
            return tuple(Cost(trial, self.noises[trial.layer]) for trial in probe.trials)
        (trial,) = probe.trials
        names = probe.key["layers"]
        assert trial == Trial(f"{len(names)} layers", "all", "int8", 0)
        probe.write(trial, Path("made"))
        self.measured.append(names)
        return (Cost(trial, self.factor * sum(self.noises[name] for name in names)),)


NOISES = {"a": 0.02, "b": 0.01, "c": 0.04, "d": 0.08}


def test_a_choice_that_keeps_the_budget_is_the_answer() -> None:
    bench = Bench(NOISES)
    assert within_noise(11, bench.layers, "") == ("a", "b", "c")
    assert bench.measured == bench.written == [["a", "b", "c"]]


def test_a_choice_that_misses_makes_the_next_aim_lower() -> None:
    bench = Bench(NOISES, factor=1.2)
    assert within_noise(11, bench.layers, "") == ("a", "b")  # the budget is 0.0794
    assert bench.measured == [["a", "b", "c"], ["a", "b"]]


def test_the_margin_says_how_much_lower() -> None:
    """All three together make 0.105; 0.1 / 0.105 of the budget is 0.095, just what `a` and `b` make."""
    noises = {"a": 0.035, "b": 0.06, "c": 0.005}
    near = Bench(noises, factor=1.05, margin=0.9999)
    assert within_noise(10, near.layers, "") == ("a", "c")
    assert within_noise(10, Bench(noises, factor=1.0).layers, "") == ("a", "b", "c")


def test_a_budget_that_no_layer_keeps_names_the_cheapest() -> None:
    message = (
        r"no choice of layers meets `min_sqnr: 21`\. The best was 20\.0 dB, with 1 of 4 layers in int8\. "
        r"Ask for less\.$"
    )
    bench = Bench(NOISES)
    with pytest.raises(PlanRefused, match=message):
        within_noise(21, bench.layers, "Ask for less.")
    assert bench.measured == []


def test_a_least_share_of_the_work_is_kept_in_any_case() -> None:
    bench = Bench(NOISES, least_share=0.5)
    with pytest.raises(PlanRefused, match=r"The best was 15\.2 dB, with 2 of 4 layers in int8"):
        within_noise(16, bench.layers, "")
    assert bench.measured == [["a", "b"]]


def test_the_search_ends_after_five_rounds() -> None:
    bench = Bench(dict.fromkeys("abcdefghijklmnopqrstuvwxyz", 0.001), factor=9)
    bench.factor, start = 1.0, bench.measure

    def worse(probe: Probe) -> tuple[Cost, ...]:
        found = start(probe)
        return found if "layers" not in probe.key else (Cost(found[0].trial, 0.0101),)

    layers = Candidates(bench.layers.probe, bench.write, worse)
    with pytest.raises(PlanRefused, match=r"The best was 20\.0 dB, with 9 of 26 layers"):
        within_noise(20, layers, "")
    assert [len(names) for names in bench.measured] == [9, 8, 7, 7, 6]


def test_costliest_layers_stay_float_until_the_drop_is_small_enough() -> None:
    asked: list[frozenset[str]] = []

    def drop(kept: frozenset[str]) -> float:
        asked.append(kept)
        return 0.1 - 0.04 * len(kept)

    alone = [cost(name, noise) for name, noise in NOISES.items()]
    assert within_drop(0.03, NOISES, lambda: alone, drop, "4 images") == {"d", "c"}
    assert asked == [frozenset(), {"d"}, {"d", "c"}]
    with pytest.raises(
        PlanRefused,
        match=r"no choice of layers meets `max_drop: 0\.01`\. The best was a drop of 0\.0200 on 4 images, with "
        r"2 of the costliest layers in floating point \(2 is the most that is tried\)\. Allow that much",
    ):
        within_drop(0.01, NOISES, lambda: alone, drop, "4 images")


def test_layers_are_not_measured_if_all_may_be_compressed() -> None:
    def measure() -> list[Cost]:
        raise AssertionError

    assert within_drop(0.1, NOISES, measure, lambda kept: 0.1, "4 images") == frozenset()
