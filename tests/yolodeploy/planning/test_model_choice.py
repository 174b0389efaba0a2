"""`model: {head:, classes:}`: what is chosen, what is refused, and how labels follow."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from world import World

from yolodeploy.backend import Params
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.reproduce.relocate import relocate

BOTH = ["one-to-one", "one-to-many"]


@pytest.fixture
def asks(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose plugin says what weights hold: two heads, and the classes red, green and blue."""
    clay = importlib.import_module("clay")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    world.weights(heads=BOTH)
    return world


def _wants(world: World, *lines: str) -> None:
    world.recipe(("imgsz: 64\n", "imgsz: 64\n" + "".join(f"  {line}\n" for line in lines)))


def _relabel(world: World, names: str, numbers: dict[str, str]) -> None:
    """Write other names into data.yaml; labels of a class without a number are removed."""
    text = (world.root / "data/data.yaml").read_text(encoding="utf-8")
    world.write("data/data.yaml", re.sub(r"names:.*", names, text, flags=re.DOTALL))
    for label in world.root.glob("data/labels/*/*.txt"):
        rows = [row.split(" ", 1) for row in label.read_text(encoding="utf-8").splitlines()]
        kept = [f"{numbers[cls]} {box}\n" for cls, box in rows if cls in numbers]
        label.write_text("".join(kept), encoding="utf-8")


def test_what_is_left_out_is_not_in_the_ids(asks: World) -> None:
    plan = asks.plan()
    assert plan.steps[0].params.model_dump(mode="json") == {}
    assert plan.model == plan.facts
    assert plan.notes == (
        "the one-to-one head runs, which needs no non-maximum suppression; the weights hold one-to-many, too",
    )
    _wants(asks, "head: one-to-many")
    other = asks.plan()
    assert other.steps[0].params.model_dump(mode="json") == {"head": "one-to-many"}
    assert (other.model.head, other.facts.head) == ("one-to-many", "one-to-one")  # type: ignore[union-attr]
    assert not {step.id for step in other.steps} & {step.id for step in plan.steps}
    assert other.view_digests == plan.view_digests
    assert "one-to-many head runs, which needs a non-maximum suppression" in other.notes[0]


def test_kept_classes_have_the_recipes_order_and_only_their_labels(asks: World) -> None:
    whole = asks.plan().views["evaluation"]
    _wants(asks, "classes: [blue, red]")
    plan = asks.plan()
    view = plan.views["evaluation"]
    assert plan.steps[0].params.model_dump(mode="json") == {"classes": ["blue", "red"]}
    assert view.names == plan.model.names == ("blue", "red")  # type: ignore[union-attr]
    colours = {"red": 0, "blue": 2}
    for image in view.images:
        ours = {(view.names[box.cls], box.x, box.y) for box in view.boxes(image)}
        theirs = {
            (name, box.x, box.y)
            for box in whole.boxes(image)
            for name, number in colours.items()
            if box.cls == number
        }
        assert ours == theirs
    assert (view.counts.objects, view.counts.left_out, view.counts.background) == (12, 6, 0)
    assert str(view.counts).endswith("12 objects, 6 of other classes left out")
    _wants(asks, "classes: [red, blue]")
    assert asks.plan().view_digests != plan.view_digests
    listed = asks.run("plan", "pot.yaml", "--json").json
    assert listed["model"] == {
        "head": "one-to-one", "heads": BOTH, "classes": ["red", "blue"], "of": 3,
    }  # fmt: skip
    text = asks.run("plan", "pot.yaml").out
    assert "note: the artifact has 2 of the model's 3 classes: red, blue" in text
    assert 'classes=["red", "blue"]' in text


def test_an_image_of_other_classes_alone_is_background(asks: World) -> None:
    label = asks.root / "data/labels/val/val000.txt"
    label.write_text(label.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    _wants(asks, "classes: [green]")
    plan = asks.plan()
    view = plan.views["evaluation"]
    assert view.boxes(next(i for i in view.images if i.stem == "val000")) == ()
    assert (view.counts.background, view.counts.labelled) == (1, 6)
    assert plan.notes[-1] == (
        "11 labelled objects of other classes are left out of the evaluation, and images that show only such "
        "objects count as background"
    )


DATA = {
    "only the kept": ("names: [blue, red]", {"0": "1", "2": "0"}),
    "the kept, in another order": ("names: [red, blue]", {"0": "0", "2": "1"}),
    "more than the model has": ("names: [pot, blue, green, red]", {"0": "3", "1": "2", "2": "1"}),
    "only the number of the model's": ("nc: 3", {"0": "0", "1": "1", "2": "2"}),
    "only the number of the kept": ("nc: 2", {"0": "1", "2": "0"}),
}


@pytest.mark.parametrize("names", DATA)
def test_a_data_set_with_other_classes_gives_the_same_labels(names: str, asks: World) -> None:
    _wants(asks, "classes: [blue, red]")
    expected = asks.plan().views["evaluation"]
    boxes = [sorted(map(str, expected.boxes(image))) for image in expected.images]
    _relabel(asks, *DATA[names])
    view = asks.plan().views["evaluation"]
    assert [sorted(map(str, view.boxes(image))) for image in view.images] == boxes


def test_a_copy_is_the_same_plan(asks: World, tmp_path: Path) -> None:
    _wants(asks, "classes: [blue, red]")
    for number, text in enumerate(("names: [red, green, blue]", "nc: 3")):
        _relabel(asks, text, {str(cls): str(cls) for cls in range(3)})
        plan = asks.plan()
        copy = plan_recipe(relocate(plan, tmp_path / f"copy{number}"), asks.cache)
        assert [step.id for step in copy.steps] == [step.id for step in plan.steps]
        assert copy.view_digests == plan.view_digests


def test_names_are_those_of_a_data_yaml(asks: World) -> None:
    """Which Ultralytics reads by YAML 1.1, so the checkpoint has `True` for `on`."""
    asks.weights(names=["True", "green", "blue"])
    _relabel(asks, 'names: ["on", green, blue]', {"0": "0", "1": "1", "2": "2"})
    _wants(asks, 'classes: [blue, "on"]')
    plan = asks.plan()
    assert plan.steps[0].params.model_dump(mode="json") == {"classes": ["blue", "True"]}
    assert plan.views["evaluation"].names == ("blue", "True")


REFUSED = {
    "a head that is not there": (
        ["head: one-to-one"], {"heads": ["one-to-many"]}, 3,
        "pot.yaml:4:3: model.clay has no one-to-one head; it has one-to-many. Write `head: one-to-many`, or "
        "remove it.",
    ),
    "a class that is not there": (
        ["classes: [red, Bleu]"], {}, 3,
        "pot.yaml:4:18: the model has no class `Bleu`. Perhaps you meant `blue`. It has 3: red, green, blue.",
    ),
    "a class twice by another name": (
        ['classes: ["True", "on"]'], {"names": ["True", "green", "blue"]}, 3,
        "pot.yaml:4:21: `on` is the class `True`, which is kept already. Remove one.",
    ),
    "a name of two classes": (
        ["classes: [red]"], {"names": ["red", "red", "blue"]}, 3,
        "pot.yaml:4:13: the model has 2 classes called `red`, so which to keep is not clear. Rename them in the "
        "checkpoint, or keep all.",
    ),
    "a class that the data set lacks": (
        ["classes: [pot]"], {"names": ["red", "green", "pot"]}, 6,
        "pot.yaml:6:3: the recipe keeps the class `pot`, and the data set has no classes of that name. Correct the "
        "names in data.yaml, or `model: classes:` in the recipe.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, asks: World) -> None:
    lines, weights, code, message = REFUSED[case]
    asks.weights(**weights)
    _wants(asks, *lines)
    result = asks.run("check", "pot.yaml")
    assert (result.code, result.error) == (code, message)


def test_images_of_other_classes_alone_measure_nothing(asks: World) -> None:
    _relabel(asks, "names: [red, green, blue]", {"0": "0"})
    _wants(asks, "classes: [blue]")
    result = asks.run("check", "pot.yaml")
    assert (result.code, result.error) == (
        6,
        "pot.yaml:7:3: no evaluation image shows one of the kept classes. Name others, or keep classes that they "
        "show.",
    )


def test_plugins_that_cannot_choose(asks: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _wants(asks, "classes: [red]")
    monkeypatch.setattr("clay.problem", lambda: "no clay. Run: pip install clay")
    refused = asks.run("check", "pot.yaml")
    assert (refused.code, refused.error) == (
        4,
        "pot.yaml:4:3: `classes` are some of the model's. To read those, the clay backend must run here: no clay. "
        "Run: pip install clay",
    )


def test_a_plugin_without_the_parameters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _wants(world, "classes: [red]")
    assert world.run("check", "pot.yaml").error == (
        "pot.yaml:4:3: the clay plugin does not say which classes a model has. Remove `classes`."
    )
    clay = importlib.import_module("clay")
    first, *others = clay.STEPS
    plain = type(first)(first.name, first.accepts, first.produces, Params, first.run)
    monkeypatch.setattr(clay, "STEPS", (plain, *others))
    _wants(world, "head: one-to-one")
    assert world.run("check", "pot.yaml").error == (
        "pot.yaml:4:3: the clay plugin, which loads `model.clay`, does not take `head`. Remove it."
    )


def test_a_step_that_keeps_other_classes(asks: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _wants(asks, "classes: [blue, red]")
    monkeypatch.setenv("CLAY_FAULT", "load:few")
    result = asks.deploy()
    assert (result.code, result.error) == (
        7,
        "pot.yaml:2:3: `load` was to keep the one-to-one head and 2 classes, and kept the one-to-one head and 1 "
        "classes. Report it to the author of the clay plugin.",
    )
    assert json.loads((asks.root / "model.clay").read_text())["names"] == ["red", "green", "blue"]
