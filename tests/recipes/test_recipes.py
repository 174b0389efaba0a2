"""Every committed recipe plans, and rebuilds to the bytes that its lock file promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yolodeploy.deploy import plan_file
from yolodeploy.errors import PlanRefused
from yolodeploy.lock import lock_path, read_lock
from yolodeploy.machine import cpu_name
from yolodeploy.store import Store

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
CALIBRATED_ON = "AMD EPYC"  # see `quantize` in docs/recipes.md
COMMAND = [sys.executable, "-m", "yolodeploy.cli"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "cache"


def names(paths):
    return [path.stem for path in paths]


def test_the_shipped_targets_are_there():
    assert {"android", "intel", "ios"} <= set(names(RECIPES))


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_plans_without_touching_a_store(recipe, tmp_path):
    plan = plan_file(recipe, Store(tmp_path / "cache"))
    assert plan.file.recipe.name == recipe.stem
    assert plan.steps[0].step.name == "load"
    assert not (tmp_path / "cache" / "objects").exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_lock_file_matches_the_plan(recipe, tmp_path):
    lock = read_lock(lock_path(recipe))
    plan = plan_file(recipe, Store(tmp_path / "cache"))
    assert [step["id"] for step in lock["steps"]] == [planned.id for planned in plan.steps]
    assert all(len(step["output"]) == 64 for step in lock["steps"])


@pytest.mark.parametrize("name", ["android", "intel"])
def test_sparse_weights_are_refused_where_the_runtime_gains_nothing(name, tmp_path):
    recipe = tmp_path / "sparse.yaml"
    steps = "steps: [{export: {}}, {sparsify: {ratio: 0.5}}]"
    recipe.write_text(f"extends: {ROOT / 'recipes' / name}.yaml\nname: sparse\n{steps}\n")
    with pytest.raises(
        PlanRefused, match=r"sparse.yaml:3:\d+: `sparsify` gains nothing here: .*`prune`"
    ):
        plan_file(recipe, Store(tmp_path / "cache"), [ROOT])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_deploys_to_the_locked_bytes_in_an_empty_store_elsewhere(recipe, tmp_path, trained):
    """Recipes that train share a store that is empty at first: each training runs once."""
    lock = read_lock(lock_path(recipe))
    plan = plan_file(recipe, Store(tmp_path / "cache"))
    cache = trained if "training" in plan.views else tmp_path / "cache"
    if (
        any(planned.step.needs(planned.params) for planned in plan.steps)
        and cpu_name() != CALIBRATED_ON
    ):
        pytest.skip(
            f"activation ranges depend on the kind of CPU; the lock was written on {CALIBRATED_ON}, "
            f"this is {cpu_name()}. Deploy twice here and compare the locks instead."
        )
    env = {
        **os.environ,
        "PYTHONHASHSEED": "4321",
        "TZ": "Pacific/Auckland",
        "LC_ALL": "C",
        "YOLODEPLOY_CACHE": str(cache),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
    }
    command = [*COMMAND, "deploy", str(recipe), "--locked", "--json", "-q"]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, umask=0o077
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["artifact"]["digest"] == lock["steps"][-1]["output"]
    assert all(check["ok"] for check in report["checks"])
    assert report["evidence"]["map50_95"]["source"] > 0.5
    bundle = tmp_path / "dist" / recipe.stem
    shipped = {path.name for path in bundle.iterdir()}
    assert {
        "labels.txt",
        "contract.json",
        "golden",
        "report.json",
        "report.html",
        "plan.json",
    } <= shipped
    assert str(ROOT) not in "".join(p.read_text() for p in bundle.glob("*.json"))
