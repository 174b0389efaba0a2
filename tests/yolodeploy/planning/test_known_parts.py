"""Models of which only the layers, or only the outputs are known: what is refused, and with which remedy."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from world import World

from yolodeploy.backend import ModelInfo, Params, Step
from yolodeploy.data import Dataset
from yolodeploy.errors import DataError, PlanRefused

Change = Callable[[str, str], None]
TAUGHT = ("steps:\n", "steps:\n  - teach: {epochs: 1}\n")
IMAGES = ("calibration:", "training: {split: train}\n  calibration:")


@pytest.fixture
def asks(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    clay = importlib.import_module("clay")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    return world


def _change(monkeypatch: pytest.MonkeyPatch, plugin: str, step: str, **fields: Any) -> None:
    """Let a step of a fake plugin have other fields."""
    module = importlib.import_module(plugin)
    steps: tuple[Step, ...] = module.STEPS
    changed = tuple(replace(each, **fields) if each.name == step else each for each in steps)
    monkeypatch.setattr(module, "STEPS", changed)


def _refused(world: World) -> str:
    with pytest.raises(PlanRefused) as caught:
        world.plan()
    return str(caught.value)


def test_a_step_that_does_not_fit_says_where_it_stands(
    asks: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(params: Params, model: ModelInfo) -> str | None:
        return "`teach` needs a known head. Remove it." if model.known == "layers" else None

    _change(monkeypatch, "clay", "teach", fits=fits)
    asks.recipe(TAUGHT, IMAGES)
    asks.plan()
    asks.weights(known="layers")
    assert re.fullmatch(
        r"pot\.yaml:\d+:\d+: `teach` needs a known head\. Remove it\.", _refused(asks)
    ), _refused(asks)


def test_what_is_passed_through_goes_to_steps_that_take_it(
    asks: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks.weights(known="outputs", obstacle="node /neck/Glaze_3 (Glaze)")
    why = (
        "`export` works on the layers of a model, and model.clay can only be passed on as it is: "
        "node /neck/Glaze_3 (Glaze) is no operation that can be changed."
    )
    text = _refused(asks)
    assert why in text
    assert text.endswith(
        "No installed backend takes it: export the model without that operation."
    ), text
    _change(monkeypatch, "oven", "bake", takes_onnx=True)
    assert _refused(asks).endswith(
        "Choose a device of oven, or export the model without that operation."
    )
    _change(monkeypatch, "kiln", "export", takes_onnx=True)
    assert asks.plan().model.known == "outputs"  # type: ignore[union-attr]
    asks.recipe(TAUGHT, IMAGES)
    text = _refused(asks)
    assert text.startswith("pot.yaml:")
    assert "`teach` works on the layers of a model" in text
    assert text.endswith("Remove `teach`.")


def test_labels_are_asked_for_only_where_they_are_read(
    asks: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks.recipe(TAUGHT, IMAGES)
    for label in (asks.root / "data/labels/train").iterdir():
        label.unlink()
    with pytest.raises(DataError, match="`teach` learns from labels, and none of the"):
        asks.plan()
    _change(monkeypatch, "clay", "teach", labels_for=lambda _: None)
    asks.plan()


def test_labels_that_a_step_cannot_learn_from_are_refused_where_it_stands(
    asks: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(params: Params, view: Dataset) -> str | None:
        return f"`teach` wants more than {len(view)} images. Add some."

    asks.recipe(TAUGHT, IMAGES)
    _change(monkeypatch, "clay", "teach", fits_labels=fits)
    with pytest.raises(DataError, match=r"pot\.yaml:\d+:\d+: `teach` wants more than \d+ images"):
        asks.plan()
    _change(monkeypatch, "clay", "teach", labels_for=lambda _: None)
    asks.plan()
