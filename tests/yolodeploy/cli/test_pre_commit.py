"""The hooks that pre-commit reads from .pre-commit-hooks.yaml, run as it runs them: entry, arguments, changed files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from world import World

FILE = Path(__file__).resolve().parents[3] / ".pre-commit-hooks.yaml"
HOOKS = yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_checks_the_changed_recipes_of_a_project(hook: dict[str, str], world: World) -> None:
    changed = ["recipes/pot.yaml", "recipes/shared/base.yaml", "data/data.yaml", "recipes/pot.lock"]
    world.recipe(("model.clay", "../model.clay"), ("data/", "../data/"), name=changed[0])
    world.write("pyproject.toml", "")
    taken = [name for name in changed if re.search(hook["files"], name)]
    assert taken == ["recipes/pot.yaml"]
    program, *words = shlex.split(hook["entry"])
    assert program == "yolodeploy"
    passed = world.run(*words, *taken)
    assert (passed.code, passed.err) == (0, "")
    world.write(taken[0], world.root.joinpath(taken[0]).read_text().replace("press", "pres"))
    failed = world.run(*words, *taken)
    assert failed.code == 3
    assert failed.error.startswith("recipes/pot.yaml:11:5: there is no step `pres`.")
