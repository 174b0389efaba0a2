"""Recipes made from the plugins' own parameters: each plans or is refused in a sentence."""

from __future__ import annotations

import json
import shutil
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from real_model import DEMO

from yolodeploy.backend.named_files import PinnedFile
from yolodeploy.backend.registry import load_registry
from yolodeploy.errors import YolodeployError
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.recipe.fields import Checks

REGISTRY = load_registry()
DEVICES = REGISTRY.devices()
SELECTORS = ["dfl", "decode", "head", "head.last", "neck", "backbone", "model.0.conv", "model.*"]
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.just("1" * 400), st.just(10**30), st.lists(st.integers(), max_size=3), st.just("../x"), st.just("\x1b[2J"),
)  # fmt: skip
RULES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def values(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of a type as a recipe writes them, most of them valid."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return values(arguments[0], (*metadata, *annotation.__metadata__))
    if origin in (Union, types.UnionType):
        return st.one_of(*(values(inner, metadata) for inner in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (tuple, list, frozenset):
        return st.lists(values(arguments[0]), max_size=3)
    if origin in (dict, Mapping):
        return st.dictionaries(st.sampled_from(SELECTORS), values(arguments[1]), max_size=2)
    if annotation is PinnedFile:
        return st.fixed_dictionaries({"file": st.just("tiny.pt"), "sha256": st.just("0" * 64)})
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return blocks(annotation)
    low, high = bounds(metadata)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(int(low), int(min(high, low + 1000))),
        float: st.floats(low, min(high, low + 1000), allow_nan=False),
        str: st.sampled_from(SELECTORS),
        type(None): st.none(),
    }
    return plain.get(annotation, ODD)


def bounds(metadata: tuple[Any, ...]) -> tuple[float, float]:
    """The lowest and highest number that the constraints of a field allow, roughly."""
    low, high = 0.0, 1e6
    for rule in metadata:
        for part in (rule, *getattr(rule, "metadata", ())):
            low = next(
                (v for v in (getattr(part, k, None) for k in ("ge", "gt")) if v is not None), low
            )
            high = next(
                (v for v in (getattr(part, k, None) for k in ("le", "lt")) if v is not None), high
            )
    return float(low), float(max(low, high))


@st.composite
def blocks(draw: Callable[..., Any], model: type[BaseModel]) -> dict[str, Any]:
    """Some of a model's fields, now and then one that is odd or unknown."""
    names = sorted(model.model_fields)
    required = [name for name in names if model.model_fields[name].is_required()]
    chosen = {
        *required,
        *draw(st.lists(st.sampled_from(names), max_size=2) if names else st.just([])),
    }
    made = {name: draw(field(model.model_fields[name])) for name in sorted(chosen)}
    if draw(st.integers(0, 9)) == 9:
        made[draw(st.sampled_from([*names, "typo"]))] = draw(ODD)
    return made


def field(info: FieldInfo) -> st.SearchStrategy[Any]:
    return values(info.annotation, tuple(info.metadata))


def systems(oldest: str | None) -> st.SearchStrategy[dict[str, str]]:
    """A version of the device's system, where it has any."""
    if oldest is None:
        return st.just({})
    return st.sampled_from([{}, {}, {"os": "18"}, {"os": "17"}, {"os": oldest}, {"os": "99"}])


@st.composite
def recipes(draw: Callable[..., Any]) -> dict[str, Any]:
    """Recipes whose steps mostly follow each other, and whose values mostly are allowed."""
    device = draw(st.sampled_from(sorted(DEVICES)))
    backend = REGISTRY.backend_of(device)
    offered = [step for _, step in REGISTRY.offered(backend) if not step.accepts.startswith(".")]
    wild = draw(st.integers(0, 5)) == 5
    current, steps = "yolo", []
    for _ in range(draw(st.integers(1, 4))):
        fitting = offered if wild else [step for step in offered if step.accepts == current]
        if not fitting:
            break
        step = draw(st.sampled_from(fitting))
        steps.append({step.name: draw(blocks(step.params))})
        current = step.produces
    if current == "yolo" and not wild:
        steps.append("export")
    recipe = {
        "model": {"weights": "tiny.pt", "imgsz": draw(st.sampled_from([32, 640, None]))},
        "data": {
            "path": "data.yaml",
            "evaluation": {"split": "val", "images": 1},
            "calibration": draw(
                st.sampled_from([{"split": "train"}, {"split": "train", "images": 1}])
            ),
            "training": {"split": "train"},
        },
        "target": {
            "device": device,
            **draw(systems(DEVICES[device].os_min)),
        },
        "steps": steps,
        "checks": draw(st.one_of(st.just({}), st.just({}), blocks(Checks))),
    }
    if draw(st.integers(0, 5)) == 5:
        place = draw(st.sampled_from(sorted(recipe)))
        recipe[place] = draw(ODD)
    return recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    shutil.copy(DEMO, root / "tiny.pt")
    for split in ("train", "val"):
        for number in range(3):
            image = root / "images" / split / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(f"{split}{number}".encode())
            label = root / "labels" / split / f"{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [circle, triangle, square, pentagon, star]\n",
        encoding="utf-8",
    )
    return root


planned: list[bool] = []


@RULES
@given(recipes())
@example(
    {"steps": {}, "model": [], "data": "x", "target": None, "checks": 1, "seed": -1, "name": "../x"}
)
def test_it_plans_or_is_refused_in_a_sentence(folder: Path, recipe: dict[str, Any]) -> None:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe, ensure_ascii=True), encoding="utf-8")  # JSON is YAML
    try:
        plan = plan_recipe(path, folder / "store")
    except YolodeployError as error:
        said = error
    else:
        planned.append(True)
        assert len(plan.final.id) == 64
        return
    planned.append(False)
    assert said.exit_code in (2, 3, 5, 6)
    assert str(said).startswith(str(path)), said
    assert max(map(len, str(said).split("\n"))) < 900, said


def test_the_recipes_were_of_both_kinds() -> None:
    assert planned.count(True) > 20
    assert planned.count(False) > 20


@RULES
@given(
    st.recursive(
        ODD,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
    )
)
def test_anything_else_is_refused(folder: Path, value: Any) -> None:
    path = folder / "odd.yaml"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(YolodeployError) as caught:
        plan_recipe(path, folder / "store")
    assert caught.value.exit_code == 2
