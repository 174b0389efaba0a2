"""Checks of drops: by their value, or by their interval if the recipe asks for a confidence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from world import World

from yolodeploy.measure import Verdict, run_checks
from yolodeploy.recipe import Checks
from yolodeploy.tasks import Key, Measure

DECISIONS = {
    (-0.01, 0.009): Verdict.OK,
    (0.011, 0.02): Verdict.FAILED,
    (0.005, 0.02): Verdict.UNDECIDED,
}


def _class(name: str, drop: float, interval: tuple[float, float] | None) -> Measure:
    return Measure(Key.CLASS_AP, 0.5, 0.5 - drop, group=name, count=9, interval=interval)


def _evidence(*measures: Measure) -> Any:
    return SimpleNamespace(measures=measures, images=100, primary=measures[0])


@pytest.mark.parametrize(("interval", "verdict"), DECISIONS.items())
@pytest.mark.parametrize("drop", [0.008, 0.012])
def test_with_a_confidence_the_interval_decides(
    interval: tuple[float, float], verdict: Verdict, drop: float
) -> None:
    evidence = _evidence(Measure(Key.MAP50_95, 0.5, 0.5 - drop, interval=interval))
    (by_value,) = run_checks(Checks(map_drop=0.01), evidence, [])
    (by_interval,) = run_checks(Checks(map_drop=0.01, confidence=0.9), evidence, [])
    assert by_value.verdict == (Verdict.OK if drop < 0.01 else Verdict.FAILED)
    agree = verdict == Verdict.UNDECIDED or by_value.verdict == verdict
    assert by_interval.verdict == (verdict if agree else Verdict.UNDECIDED)
    assert bool(by_value.doubt) == (by_interval.verdict == Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("other", "named", "verdict"),
    [
        (_class("b", 0.02, (0.011, 0.03)), "b", Verdict.FAILED),
        (_class("b", 0.001, (-0.05, 0.05)), "b", Verdict.UNDECIDED),
        (_class("b", 0.001, None), "b", Verdict.UNDECIDED),  # one image shows it
        (_class("b", 0.001, (-0.01, 0.005)), "a", Verdict.OK),
    ],
)
def test_every_class_must_be_told(other: Measure, named: str, verdict: Verdict) -> None:
    evidence = _evidence(_class("a", 0.005, (0.001, 0.009)), other)
    (check,) = run_checks(Checks(class_ap_drop=0.01, confidence=0.9), evidence, [])
    assert (check.note, check.verdict) == (f"class `{named}`", verdict)


def test_a_drop_that_few_images_cannot_tell_ships_nothing(world: World) -> None:
    world.weights(damage={"fp16": {"shift": 2.0}})
    world.recipe(extra="checks: {map_drop: 0.5, confidence: 0.9}\n")
    first = world.deploy("--json")
    (check,) = first.json["report"]["checks"] if first.code else first.json["checks"]
    assert check["interval"][0] < check["value"] < check["interval"][1]
    limit = (check["value"] + check["interval"][1]) / 2
    world.recipe(extra=f"checks: {{map_drop: {limit}, confidence: 0.9}}\n")
    undecided = world.deploy("--json")
    assert (undecided.code, undecided.json["error"]["kind"]) == (12, "undecided")
    assert "6 images cannot tell. Measure on about" in undecided.error
    world.recipe(extra=f"checks: {{map_drop: {limit}}}\n")
    by_value = world.deploy()
    assert by_value.code == 0
    assert "warning: map_drop: " in by_value.err
    world.recipe(extra=f"checks: {{map_drop: {limit}, confidence: 0.5}}\n")
    narrower = world.deploy("--json")
    rows = (narrower.json.get("report") or narrower.json)["checks"]
    assert rows[0]["interval"][1] < check["interval"][1]


def test_a_confidence_without_a_drop_is_refused(world: World) -> None:
    world.recipe(extra="checks: {confidence: 0.9, size_mb: 9}\n")
    result = world.run("check", "pot.yaml")
    assert result.code == 3
    assert (
        "`confidence` decides `map_drop`, `top1_drop` and `class_ap_drop`, and the recipe checks none"
        in result.error
    )
