"""Tools of a single step: in the ids from that step on, and in the lock; nowhere else."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
from world import World

from yolodeploy.planning.lock import lock_of
from yolodeploy.planning.plan import Plan
from yolodeploy.system.distributions import installed


@pytest.fixture
def kiln(monkeypatch: pytest.MonkeyPatch):
    """A function that gives the fake's step `press` the tools that only it uses."""
    module = importlib.import_module("kiln")
    steps = list(module.STEPS)

    def equip(*tools: str) -> None:
        changed = [replace(s, tools=tools) if s.name == "press" else s for s in steps]
        monkeypatch.setattr(module, "STEPS", changed)

    return equip


def ids(plan: Plan) -> list[str]:
    return [planned.id for planned in (*plan.steps, plan.reference)]


def test_only_the_ids_from_the_step_on_change(world: World, kiln) -> None:
    before = world.plan()
    kiln("pydantic")
    after = world.plan()
    assert [old == new for old, new in zip(ids(before), ids(after), strict=True)] == [
        *(True, True, False),
        True,
    ]


def test_no_tools_is_what_it_was(world: World, kiln) -> None:
    before = world.plan()
    kiln()
    assert ids(world.plan()) == ids(before)


def test_lock_lists_them_only_where_the_step_takes_part(world: World, kiln) -> None:
    kiln("pydantic", "no-such-tool")
    kiln_versions = lock_of(world.plan(), {}).versions["kiln"]
    assert kiln_versions == {
        "kiln": "2.0",
        **installed("pydantic", "numpy", "opencv-python-headless"),
        "no-such-tool": "missing",
    }
    world.recipe(("  - press: {strength: 0.25}\n", ""))
    assert world.plan().versions()["kiln"] == {"kiln": "2.0"}
