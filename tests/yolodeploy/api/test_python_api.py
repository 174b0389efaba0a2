"""The Python API as a notebook uses it."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from world import World

import yolodeploy as yd
from yolodeploy.api.notebook import head, table, text
from yolodeploy.errors import ChecksFailed, PlanRefused, RecipeError, VerificationFailed
from yolodeploy.tasks import Measure

ROOT = Path(__file__).resolve().parents[3]

IMPORTED = """
import sys
from dataclasses import replace
import yolodeploy as yd
loaded = set(sys.modules)
assert dir(yd) and yd.deploy and yd.Session
print(sorted(n for n in loaded if n.startswith("yolodeploy.")))
print([n for n in ("rich", "numpy", "yaml", "pydantic", "torch") if n in sys.modules])
"""


@pytest.fixture
def here() -> yd.Session:
    """Quiet, and in this process: the fake plugins and quick timings are here."""
    return yd.Session(verbosity=-1, in_process=True)


def test_importing_the_package_loads_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_plan_and_deploy(deployed: World, here: yd.Session) -> None:
    plan = yd.plan("pot.yaml", session=here)
    assert [step.name for step in plan.steps] == ["load", "export", "press"]
    assert (plan.device, plan.measured, plan.problem) == ("kiln-a", True, None)
    assert all(step.cached for step in plan.steps)
    assert plan.ids == tuple(step.id for step in deployed.plan().steps)
    assert str(plan) == deployed.run("plan", "pot.yaml").out.rstrip("\n")
    assert repr(plan) == f"<Plan pot: load, export, press for kiln-a, {plan.ids[-1][:12]}>"
    before = deployed.state()
    result = yd.deploy(plan)
    assert deployed.state() == before
    assert (result.passed, result.bundle, result.error) == (True, Path("dist/pot"), None)
    first = result.measure("map50_95")
    assert isinstance(first, Measure)
    assert first in result.measures
    report = json.loads((deployed.bundle / "report.json").read_text())
    assert first.artifact == report["evidence"]["map50_95"]["artifact"]
    assert str(result) == deployed.good().out.rstrip("\n")
    with pytest.raises(LookupError, match="'map' was not measured; there are map50_95, "):
        result.measure("map")


def test_a_plan_that_the_recipe_left_behind_is_refused(deployed: World, here: yd.Session) -> None:
    plan = yd.plan(deployed.root / "pot.yaml", session=here)
    deployed.recipe(("strength: 0.25", "strength: 0.5"))
    with pytest.raises(PlanRefused, match="is not what was planned: `press` has another id now"):
        yd.deploy(plan)


def test_a_failed_check_ships_nothing_and_shows_its_figures(
    deployed: World, here: yd.Session
) -> None:
    deployed.recipe(name="other.yaml", extra="checks:\n  size_mb: 0.000001\n")
    with pytest.raises(ChecksFailed, match="size_mb: ") as failed:
        yd.deploy("other.yaml", session=here)
    result = yd.deploy("other.yaml", raises=False, session=here)
    assert (result.passed, result.bundle) == (False, None)
    assert str(result.error) == str(failed.value)
    assert result.report == failed.value.report
    assert [(check.name, check.ok) for check in result.checks] == [("size_mb", False)]
    assert result.measure("map50_95").artifact is not None
    assert not (deployed.root / "dist/other").exists()
    assert "checks failed" in repr(result)
    assert "no bundle" in result._repr_html_()


def test_several_recipes_give_a_result_each(deployed: World, here: yd.Session) -> None:
    deployed.recipe(("kiln-a", "kiln-z"), name="other.yaml")
    results = yd.deploy(["pot.yaml", "other.yaml"], raises=False, session=here)
    assert [result.passed for result in results] == [True, False]
    assert isinstance(results[1].error, PlanRefused)
    assert "1 of 2" in results._repr_html_()
    with pytest.raises(yd.Failures) as failures:
        yd.deploy(["pot.yaml", "other.yaml"], session=here)
    assert failures.value.results[0].bundle == Path("dist/pot")
    assert failures.value.subgroup(PlanRefused) is not None
    assert len(yd.check(["pot.yaml"], session=here)) == 1
    with pytest.raises(ValueError, match="empty list"):
        yd.deploy([], session=here)


def test_the_other_calls(deployed: World, here: yd.Session) -> None:
    built = yd.build("pot.yaml", session=here)
    assert built.cached
    assert built.path is not None
    assert sum(file.stat().st_size for file in built.path.rglob("*")) >= built.bytes > 0
    checked = yd.check("pot.yaml", session=here)
    assert checked.passed
    assert checked.views["evaluation"]["images"] > 0
    proof = yd.remeasure("pot.yaml", session=here)
    assert proof.file is not None
    assert proof.measure("map50_95").artifact == yd.verify("dist/pot").measure("map50_95").artifact
    assert yd.verify("dist/pot", lock="pot.lock").passed
    (deployed.bundle / "report.json").write_text("{}")
    with pytest.raises(VerificationFailed, match=r"dist/pot is not what was deployed:\n  "):
        yd.verify("dist/pot")
    with pytest.raises(RecipeError):
        yd.plan("none.yaml", session=here)


def test_a_path_that_stands_alone_is_not_taken_letter_by_letter() -> None:
    """Letters of a path would be paths: the first of an absolute one allows the whole disk."""
    assert yd.Session(allow="/srv/models").allowed == (Path("/srv/models"),)
    assert yd.Session(allow=Path("models")).allowed == (Path("models"),)
    assert yd.Session(allow=["/a", Path("b")]).allowed == (Path("/a"), Path("b"))


def test_arguments_that_mean_nothing_are_refused(deployed: World, here: yd.Session) -> None:
    budgets = ({"trials": 0}, {"trials": -1}, {"trials": 2.5}, {"minutes": -1}, {"seed": -1})
    for budget in (*budgets, {"minutes": float("nan")}, {"minutes": float("inf")}):
        with pytest.raises(ValueError, match="must be a"):
            yd.search("pot.yaml", session=here, **budget)
    with pytest.raises(ValueError, match="undecided='acept' must be"):
        yd.deploy("pot.yaml", undecided="acept", session=here)  # type: ignore[call-overload]
    for call in (yd.verify, yd.compare):
        with pytest.raises(ValueError, match="empty list"):
            call([])


def test_tools_run_in_a_child(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of native code ends the child, not the notebook."""
    from yolodeploy.errors import NativeFault

    monkeypatch.setenv("CLAY_FAULT", "press:segfault")
    with pytest.raises(NativeFault, match="press"):
        yd.build("pot.yaml", session=yd.Session(verbosity=-1))


def test_what_a_notebook_shows_is_escaped(deployed: World, here: yd.Session) -> None:
    deployed.weights(names=["<script>alert(1)</script>", "green", "blue"])
    data = deployed.root / "data/data.yaml"
    data.write_text(data.read_text().replace("red", "'<script>alert(1)</script>'"))
    plan = yd.plan("pot.yaml", session=here)
    result = yd.deploy(plan, raises=False)
    for page in (plan._repr_html_(), result._repr_html_()):
        assert "<script" not in page
        assert page.count("<table") == page.count("</table>") > 0


def test_marks_of_direction_do_not_reach_a_notebook() -> None:
    """They would turn the figures behind a name."""
    name = "a\u202eb\u2066"
    for page in (head(name, name, name, good=True), table([name], [[name]]), text(name)):
        assert "a\ufffdb\ufffd" in page
        assert "\u202e" not in page


def test_the_page_about_python_runs_as_it_is_written(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLODEPLOY_IN_PROCESS", "1")
    (deployed.root / ".git").mkdir()  # the project
    recipe = (deployed.root / "pot.yaml").read_text()
    for old in ("model.clay", "data/data.yaml"):
        recipe = recipe.replace(old, f"../{old}")
    deployed.write("recipes/ios.yaml", recipe)
    deployed.write("recipes/strict.yaml", f"{recipe}checks:\n  size_mb: 0.000001\n")
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    printed = deployed.capsys.readouterr().out
    assert "size_mb" in printed
    assert (deployed.root / "dist/ios/manifest.json").is_file()
    assert not (deployed.root / "dist/strict").exists()


def test_every_function_is_on_the_page_about_python_and_described() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for name in dir(yd):
        found = getattr(yd, name)
        if not name.startswith("_") and callable(found):
            assert f"`{name}`" in page or f"yd.{name}(" in page, name
            assert found.__doc__, name


def test_from_a_checkpoint_to_a_comparison(
    world: World, here: yd.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    clay = importlib.import_module("clay")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    world.write(".git/HEAD", "")
    proposed = yd.init("model.clay", data="data/data.yaml", devices=["kiln-a"], session=here)
    assert proposed.recipes == (Path("recipes/kiln-a.yaml"),)
    assert str(proposed).endswith("Next: yolodeploy deploy recipes/kiln-a.yaml")
    session = replace(here, allow=proposed.allow)
    result = yd.deploy(proposed.recipes[0], raises=False, session=session)
    assert result.report is not None
    yd.deploy("pot.yaml", session=here)
    compared = yd.compare(["dist"])
    assert compared.labels[-1] == "pot"
    assert "pot" in compared._repr_html_()
    assert str(compared) == world.run("compare", "dist").out.rstrip("\n")
    with pytest.raises(VerificationFailed):
        yd.compare(["dist/pot", "data"])
    assert yd.compare(["dist/pot", "data"], raises=False).problems
