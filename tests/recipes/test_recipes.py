"""Every committed recipe plans, and rebuilds to the bytes that its lock file promises."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yolodeploy.errors import PlanRefused
from yolodeploy.planning.lock import lock_path, read_lock
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.system.machine import cpu_name

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TASKS = ("segment", "pose", "obb", "classify")
# Of the recipes of other tasks, one of each is built here, each backend's at least once; `make reproduce` builds all, and
# tests/contract/test_contract_tasks.py exports every task for every backend.
BUILT_OF_TASKS = {"android-segment", "ios-pose", "android-obb", "ios-classify"}
BUILT = [p for p in RECIPES if not p.stem.endswith(TASKS) or p.stem in BUILT_OF_TASKS]
# One of every chain of steps is built by `reproduce`, under other conditions and in a process of its own. The rest of BUILT
# is built by `deploy --locked`, which compares the digest of every step with the lock, too: it was written by another
# process with another hash seed, in another folder. `make reproduce` takes them all.
CHAINS = {
    *("android", "android-int8", "android-obb", "android-pruned", "android-qat"),
    *("intel", "intel-int8", "intel-pruned", "intel-qat"),
    *("ios", "ios-int8", "ios-pose", "ios-pruned", "ios-qat", "linux-int8"),
}
REPRODUCED = [path for path in BUILT if path.stem in CHAINS]
# These differ from a recipe that is deployed in their weights alone: they are built and compared with the
# lock. Their checks, which take the 200 images of the evaluation, held when the lock was written, and hold in `make deploy`.
UNMEASURED = {"android-yolo11", "intel-yolo11", "ios-yolo11"}
DEPLOYED = [path for path in BUILT if path.stem not in UNMEASURED]
CALIBRATED_ON = "AMD EPYC"  # see `quantize` in docs/recipes.md
COMMAND = [sys.executable, "-m", "yolodeploy"]
PATHS = f"{ROOT}:{ROOT / 'plugins'}"


def names(paths):
    return [path.stem for path in paths]


def test_the_shipped_targets_are_there():
    assert {"android", "intel", "ios"} <= set(names(RECIPES))


@pytest.fixture(scope="module")
def cache_of_plans(tmp_path_factory):
    return tmp_path_factory.mktemp("plans") / "cache"


@pytest.fixture(scope="module")
def plan_of(cache_of_plans):
    """The plan of a shipped recipe, made once."""
    return functools.cache(lambda recipe: plan_recipe(recipe, cache_of_plans))


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_plans_without_touching_a_store(recipe, plan_of, cache_of_plans):
    plan = plan_of(recipe)
    assert plan.file.recipe.name == recipe.stem
    assert plan.steps[0].step.name == "load"
    assert not (cache_of_plans / "objects").exists()


def test_one_of_every_chain_of_steps_is_reproduced(plan_of):
    def chain(recipe):
        plan = plan_of(recipe)
        return plan.backend.NAME, *(planned.step.name for planned in plan.steps)

    chains = [chain(recipe) for recipe in REPRODUCED]
    assert sorted(chains) == sorted({chain(recipe) for recipe in RECIPES})


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_lock_file_matches_the_plan(recipe, plan_of):
    lock = read_lock(lock_path(recipe))
    plan = plan_of(recipe)
    assert [step["id"] for step in lock.steps] == [planned.id for planned in plan.steps]
    assert all(len(step["output"]) == 64 for step in lock.steps)


@pytest.mark.parametrize("name", ["android", "intel"])
def test_sparse_weights_are_refused_where_the_runtime_gains_nothing(name, tmp_path):
    recipe = tmp_path / "sparse.yaml"
    steps = "steps: [{export: {}}, {sparsify: {ratio: 0.5}}]"
    recipe.write_text(f"extends: {ROOT / 'recipes' / name}.yaml\nname: sparse\n{steps}\n")
    with pytest.raises(
        PlanRefused, match=r"sparse.yaml:3:\d+: `sparsify` gains nothing here: .*`prune`"
    ):
        plan_recipe(recipe, tmp_path / "cache", [ROOT])


def on(name, target, tmp_path):
    """The plan of a shipped recipe for another target."""
    recipe = tmp_path / "other.yaml"
    recipe.write_text(f"extends: {ROOT / 'recipes' / name}.yaml\nname: other\ntarget: {target}\n")
    return plan_recipe(recipe, tmp_path / "cache", [ROOT])


@pytest.mark.parametrize(
    ("name", "target", "version"),
    [
        ("ios", "{device: ios}", "16"),
        ("ios-small", "{device: ios}", "16"),
        ("ios-int8", '{device: ios, os: "17"}', "17"),
        ("ios", "{device: iphone-17}", "16"),
        ("ios", '{device: iphone-18-pro, os: "26"}', "26"),
        ("android", "{device: android}", None),
        ("android-small", "{device: arm-linux}", None),
        ("intel-int8", "{device: intel-cpu}", None),
        ("linux-int8", "{device: windows-x64}", None),
        ("linux-int8", "{device: web-wasm}", None),
    ],
)
def test_generic_and_new_devices_take_the_shipped_recipes(name, target, version, tmp_path):
    assert on(name, target, tmp_path).target.os_version == version


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "{device: Pixel-12}",
            r"`pixel-10`.* Generic: `android` or `android-ort`\. `yolodeploy devices` lists all",
        ),
        (
            "{device: tablet}",
            "Generic: `ios`, `android`, `arm-linux`, `windows-x64`, .* or `intel-cpu`",
        ),
        ('{device: iphone-16, os: "15"}', "never ran iOS 15; it starts at 18"),
        ('{device: iphone-17, os: "14"}', "Ask for iOS 15 or newer"),
        ('{device: iphone-18-pro, os: "27"}', "Ask for 26: newer systems run it"),
    ],
)
def test_targets_that_nothing_ships_to(target, said, tmp_path):
    with pytest.raises(PlanRefused, match=said):
        on("ios", target, tmp_path)


def comparable(plan):
    """Whether the lock's bytes are those that this CPU gives: the same on every kind, or of this kind."""
    portable = not any(planned.step.needs(planned.params) for planned in plan.steps)
    return portable or cpu_name() == CALIBRATED_ON


def require_comparable(plan):
    if not comparable(plan):
        pytest.skip(
            f"activation ranges depend on the kind of CPU; the lock was written on {CALIBRATED_ON}, "
            f"this is {cpu_name()}. Deploy twice here and compare the locks instead."
        )


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, plan_of):
    """A recipe of every chain whose lock counts here, built again elsewhere: a row of each, and the store."""
    recipes = [path for path in REPRODUCED if comparable(plan_of(path))]
    folder = tmp_path_factory.mktemp("reproduced") / "kept"
    command = [*COMMAND, "reproduce", *map(str, recipes), "--keep", str(folder), "--json", "-q"]
    env = {**os.environ, "YOLODEPLOY_CACHE": str(folder.parent / "cache"), "PYTHONPATH": PATHS}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    rows = json.loads(done.stdout)["recipes"]
    return {Path(row["recipe"]).stem: row for row in rows}, folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", REPRODUCED, ids=names(REPRODUCED))
def test_reproduces_byte_for_byte(recipe, reproduced, plan_of):
    require_comparable(plan_of(recipe))
    row = reproduced[0][recipe.stem]
    assert row["ok"], row
    assert row["steps"] == len(read_lock(lock_path(recipe)).steps)


# Timed as users have it: what a check needs, and the first artifact of every backend. The others are run, but no figure of
# theirs is looked at.
DEPLOY = """
import contextlib, io, json, os, sys
from yolodeploy.cli.main import main
from yolodeploy.hosts import local, timing
from yolodeploy.worker import turns
os.umask(0o077)
apart, seen = local.time_apart, set()
def quickly(request):
    if request.limits or request.serving or request.backend not in seen:
        seen.add(request.backend)
        return apart(request)
    return timing.time_here(request)
local.time_apart, turns.SETTLE, turns.BURST = quickly, 0.0, 0.0
done = {}
commands = json.loads(sys.argv[1])
for recipe, command in commands.items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([command, recipe, "--locked", "--json", "-q"])
    if command == "build":
        done[recipe] = [code, None, out.getvalue(), err.getvalue()]
        continue
    plain = recipe.removesuffix(".yaml")
    bundle = os.path.join("dist", os.path.basename(plain))
    with contextlib.redirect_stdout(err), contextlib.redirect_stderr(err):
        verified = None if code else main(["verify", bundle, "--lock", plain + ".lock"])
    done[recipe] = [code, verified, out.getvalue(), err.getvalue()]
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def deployed(reproduced, tmp_path_factory, plan_of):
    """Every recipe whose lock counts here, deployed once, from what was built elsewhere, and verified; or only built.

    One process takes them all, because the tools start slowly.
    """
    folder = tmp_path_factory.mktemp("deployed")
    commands = {
        str(path): "build" if path.stem in UNMEASURED else "deploy"
        for path in BUILT
        if comparable(plan_of(path))
    }
    env = {**os.environ, "YOLODEPLOY_CACHE": str(reproduced[1]), "PYTHONPATH": PATHS}
    command = [sys.executable, "-c", DEPLOY, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder / "dist"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(UNMEASURED))
def test_builds_the_locked_bytes(recipe, deployed, plan_of):
    path = ROOT / "recipes" / f"{recipe}.yaml"
    require_comparable(plan_of(path))
    code, _, out, err = deployed[0][str(path)]
    assert code == 0, err
    assert json.loads(out)["digest"] == read_lock(lock_path(path)).steps[-1]["output"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", DEPLOYED, ids=names(DEPLOYED))
def test_deploys_with_its_checks(recipe, deployed, plan_of):
    """The bundle holds the locked bytes, every check holds, it verifies, and the example decodes it."""
    require_comparable(plan_of(recipe))
    code, verified, out, err = deployed[0][str(recipe)]
    assert (code, verified) == (0, 0), err
    report = json.loads(out)
    assert report["artifact"]["digest"] == read_lock(lock_path(recipe)).steps[-1]["output"]
    assert all(check["ok"] for check in report["checks"])
    assert report["evidence"][report["scores"][0]]["source"] > 0.5
    bundle = deployed[1] / recipe.stem
    shipped = {path.name for path in bundle.iterdir()}
    assert {
        "labels.txt",
        "contract.json",
        "golden",
        "report.json",
        "report.html",
        "plan.json",
        "provenance.json",
        "bom.cdx.json",
    } <= shipped
    assert str(ROOT) not in "".join(p.read_text() for p in bundle.glob("*.json"))
    decode = [sys.executable, str(ROOT / "examples/decode"), str(bundle)]
    assert subprocess.run(decode, check=False).returncode == 0
