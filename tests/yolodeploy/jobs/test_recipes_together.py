"""Several recipes in one command: planned together, shared work once, one table, the exit code of the worst."""

from __future__ import annotations

import pytest
from world import World


def _three(world: World) -> None:
    """Three recipes that load the same model; two of them export the same."""
    world.recipe(name="a.yaml")
    world.recipe(("0.25", "0.5"), name="b.yaml")
    world.recipe(("fp16", "fp32"), ("  - press: {strength: 0.25}\n", ""), name="c.yaml")


def test_what_recipes_share_runs_once(world: World) -> None:
    _three(world)
    result = world.run("deploy", "a.yaml", "b.yaml", "c.yaml")
    assert result.code == 0, result.err
    assert sorted(world.log) == ["export", "export", "load", "press", "press"]
    assert result.err.count("measure the source model") == 0
    assert result.err.count("measure 6 images ...") == 3
    lines = result.out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["a", "ok"], ["b", "ok"], ["c", "ok"]]
    assert lines[4:] == ["3 of 3 ok", "bundles in dist: a, b, c"]
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[2:6] == ["0.01", "0.9720", "0.9720", "+0.0000"]
    for name in "abc":
        assert (world.root / f"{name}.lock").is_file()
        assert (world.root / "dist" / name / "manifest.json").is_file()
    again = world.run("deploy", "a.yaml", "b.yaml", "c.yaml", "--locked", "--json")
    assert [row["recipe"] for row in again.json] == ["a.yaml", "b.yaml", "c.yaml"]
    assert all(row["ok"] and row["bundle"] == f"dist/{row['name']}" for row in again.json)
    assert again.json[0]["steps"][0]["cached"]


def test_long_names_keep_what_tells_them_apart(world: World) -> None:
    names = ["shapes-yolo26-core-ultra-200s", "shapes-yolo26-linux-x64"]
    for name in names:
        text = (world.root / "pot.yaml").read_text().replace("name: pot", f"name: {name}")
        world.write(f"{name}.yaml", text)
    built = world.run("build", *(f"{name}.yaml" for name in names)).out.splitlines()
    assert [line.split()[0] for line in built[1:3]] == names
    deployed = world.run("deploy", *(f"{name}.yaml" for name in names)).out.splitlines()
    assert [line.split()[0] for line in deployed[1:3]] == [
        "shapes-y...ore-ultra-200s",
        "shapes-yolo26-linux-x64",
    ]
    assert max(map(len, deployed[:3])) <= 80


def test_one_that_fails_stops_no_other_and_the_worst_decides(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _three(world)
    world.recipe(("0.25", "0.75"), name="small.yaml", extra="checks: {size_mb: 0.001}\n")
    world.write("broken.yaml", "model: [")
    names = ["small.yaml", "broken.yaml", "c.yaml"]
    result = world.run("deploy", *names, "--json")
    assert result.code == 2  # an error is worse than failed checks
    small, broken, good = result.json
    assert (small["error"]["kind"], broken["error"]["kind"]) == ("checks failed", "recipe")
    assert small["report"]["checks"][0]["name"] == "size_mb"
    assert good["ok"]
    assert result.err.count("error: ") == 2
    monkeypatch.setenv("CLAY_FAULT", "press:raise")
    built = world.run("build", "a.yaml", "b.yaml", "c.yaml")
    assert built.code == 7
    verdicts = [" ".join(line.split()[1:3]) for line in built.out.splitlines()[1:4]]
    assert verdicts[:2] == ["step failed", "step failed"]
    assert built.out.splitlines()[4] == "1 of 3 ok"
    monkeypatch.setattr("yolodeploy.jobs.recipes.make_artifact", lambda _: 1 / 0)
    bug = world.run("build", "broken.yaml", "c.yaml")
    assert bug.code == 70  # a bug is worse than an error
    assert "unexpected ZeroDivisionError" in bug.err


def test_the_same_twice_is_refused_before_anything_runs(world: World) -> None:
    world.recipe()
    twice = world.run("deploy", "pot.yaml", "./pot.yaml")
    assert (twice.code, twice.error) == (2, "pot.yaml: is named twice. Name every recipe once.")
    world.recipe(("kiln-a", "kiln-b"), name="other.yaml", extra="name: pot\n")
    same = world.run("deploy", "pot.yaml", "other.yaml")
    assert same.code == 2
    assert same.error == (
        "pot.yaml and other.yaml would both write the bundle dist/pot. Give one of them another `name`."
    )
    assert world.log == []
    world.recipe(name="again.yaml")
    names = ["pot.yaml", "other.yaml", "again.yaml"]
    built = world.run("build", *names, "--json")  # which writes no bundle
    assert built.code == 0
    assert [row["cached"] for row in built.json] == [False] * 3  # before the command made it
    assert all(row["cached"] for row in world.run("build", *names, "--json").json)


def test_check_ends_with_the_code_of_the_worst(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("broken.yaml", "model: [")
    monkeypatch.setattr("yolodeploy.planning.planner.find_export", lambda *_: 1 / 0)
    result = world.run("check", "broken.yaml", "pot.yaml")
    assert result.code == 70
    assert result.err.count("error: ") == 2
