"""Spaces: which recipes they hold, and where a search in them begins."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from yolodeploy.recipe.fields import Recipe
from yolodeploy.recipe.search_block import Search
from yolodeploy.trials.objectives import Figure, Objective, front
from yolodeploy.trials.space import Range, Space, fitted, middle, point_of
from yolodeploy.trials.starts import own_point, starts

STEPS = """\
- one_of:
    - nothing
    - [trim, {mend: {epochs: {from: 1, to: 100, log: true}}}]
- export: {precision: {choice: [fp16, fp32]}}
- one_of:
    - press: {strength: {from: 0.1, to: 0.9, step: 0.2}, layers: {neck: {choice: [4, 8]}}}
    - glaze: {coats: {from: 1, to: 9}}
    - nothing
"""


def _space(**more: Any) -> Space:
    block = {"steps": yaml.safe_load(STEPS), "objectives": {"size_mb": None}, **more}
    return Space.of(
        Search.model_validate(block), (), lambda _step, name: {"precision": "fp32"}.get(name)
    )


def _recipe(steps: list[Any], **more: Any) -> Recipe:
    data = {"path": "data.yaml", **more}
    base = {"name": "a", "model": {"weights": "a.pt"}, "data": data, "target": "kiln-a"}
    return Recipe.model_validate({**base, "steps": steps})


def test_every_place_has_a_name_and_where_it_is_written() -> None:
    places = {place.name: place for place in _space().places()}
    assert list(places) == [
        "steps.0",
        "steps.0.1.1.mend.epochs",
        "steps.1.export.precision",
        "steps.2",
        "steps.2.0.0.press.strength",
        "steps.2.0.0.press.layers.neck",
        "steps.2.1.0.glaze.coats",
    ]
    assert places["steps.2"].values() == (0, 1, 2)
    assert places["steps.0.1.1.mend.epochs"].values() == (1, 10, 100)
    assert places["steps.2.1.0.glaze.coats"].loc == ("steps", 2, "one_of", 1, 0, "glaze", "coats")


def test_a_point_is_a_recipe() -> None:
    space = _space(data={"calibration": {"images": {"choice": [8, 16]}}}, target={"os": "4"})
    point = {
        "steps.0": 1,
        "steps.2": 0,
        "steps.2.0.0.press.strength": 0.5,
        "data.calibration.images": 16,
    }
    overlay = space.overlay(point_of(point, space.usual))
    assert overlay.steps == (
        "trim",
        {"mend": {"epochs": 10}},
        {"export": {"precision": "fp32"}},  # the default
        {"press": {"strength": 0.5, "layers": {"neck": 4}}},
    )
    assert (dict(overlay.images), overlay.os) == ({"calibration": 16}, "4")


def test_the_recipes_own_point_is_found_where_it_lies_in_the_space() -> None:
    space = _space()
    own = _recipe(
        [
            "trim",
            {"mend": {"epochs": 7}},
            {"export": {"precision": "fp16"}},
            {"glaze": {"coats": 2}},
        ]
    )
    point = own_point(space, own)
    assert point == {
        "steps.0": 1,
        "steps.0.1.1.mend.epochs": 7,
        "steps.1.export.precision": "fp16",
        "steps.2": 1,
        "steps.2.1.0.glaze.coats": 2,
    }
    assert own_point(space, _recipe(["export"])) == {  # which leaves the default out
        "steps.0": 0,
        "steps.1.export.precision": "fp32",
        "steps.2": 2,
    }
    for steps in (
        ["trim", "export"],
        ["export", {"glaze": {"coats": 10}}],
        ["export", "glaze", "glaze"],
    ):
        assert own_point(space, _recipe(steps)) is None


def test_a_search_begins_with_the_recipe_and_takes_every_way_once() -> None:
    space = _space()
    found = starts(space, _recipe([{"export": {"precision": "fp16"}}]))
    assert found[0] == {"steps.0": 0, "steps.1.export.precision": "fp16", "steps.2": 2}
    assert {point["steps.2"] for point in found} == {0, 1, 2}
    assert {point["steps.0"] for point in found} == {0, 1}
    keys = [space.overlay(point_of(point, space.usual)).key for point in found]
    assert len(set(keys)) == len(keys) == 5


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (Range(low=0.1, high=0.9), 0.123456, 0.123),
        (Range(low=1, high=8), 3.6, 4),
        (Range(low=0.1, high=0.9, step=0.2), 0.42, 0.5),
        (Range(low=0.1, high=0.99999), 0.999999, 0.99999),
    ],
)
def test_numbers_are_as_short_as_recipes_have_them(
    domain: Range, value: float, expected: float
) -> None:
    assert fitted(domain, value) == pytest.approx(expected, abs=0)
    assert domain.low <= middle(domain) <= domain.high


def test_differences_that_noise_makes_are_none_and_limits_hold() -> None:
    size, drop = Objective("size_mb", 5.0), Objective("map_drop")
    tried = {
        "large": {"size_mb": 4.0, "map_drop": -0.004},  # luck
        "small": {"size_mb": 2.0, "map_drop": 0.0005},
        "smaller": {"size_mb": 1.0, "map_drop": 0.03},
        "beaten": {"size_mb": 1.5, "map_drop": 0.04},
        "twin": {"size_mb": 2.001, "map_drop": 0.0004},
        "too large": {"size_mb": 6.0, "map_drop": 0.0},
    }
    figures = {k: {n: Figure(f) for n, f in v.items()} for k, v in tried.items()}
    assert front([size, drop], figures) == ["smaller", "small"]
    assert front(
        [Objective("fidelity")], {"a": {"fidelity": Figure(0.9)}, "b": {"fidelity": Figure(0.95)}}
    ) == ["b"]
