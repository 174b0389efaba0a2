"""`yolodeploy search` with the made-up backend: what is proposed, given up, judged and written; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from world import Result, World, copy_world

from yolodeploy.recipe import load, load_yaml

pytest.importorskip("optuna", reason="not installed. Run: pip install -e '.[search]'")

SPACE = """\
search:
  steps:
    - export: {precision: {choice: [fp16, fp32]}}
    - one_of:
        - nothing
        - press: {strength: {from: 0.1, to: 0.9}}
  objectives: {size_mb, map_drop}
  budget: {trials: 8}
"""
PRESS = "press: {strength: {from: 0.1, to: 0.9}}"


def _search(world: World, *more: str, name: str = "pot.yaml") -> Result:
    return world.run("search", name, *more)


def _good(world: World, *more: str) -> Any:
    result = _search(world, "--json", *more)
    assert result.code == 0, result.err
    return result.json


def _steps(found: Any) -> list[Any]:
    return [trial["steps"] for trial in found["tried"]]


@pytest.fixture
def spoiled(world: World) -> World:
    """A world in which fp16 shifts boxes, so that size and accuracy pull in different directions."""
    world.weights(padding=400_000, damage={"fp16": {"shift": 2.0}})
    world.recipe(extra=SPACE)
    return world


def test_the_front_is_written_as_plain_recipes(spoiled: World) -> None:
    result = _search(spoiled)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("pot: 8 recipes in 0.")
    assert lines[2].split() == ["MB", "mAP", "drop"]
    assert [line.split()[0] for line in lines[3:5]] == ["pot.yaml", "pot-search-1.yaml"]
    assert lines[4].split()[1:] == ["0.20", "+0.0000", "/", "+0.0000"]
    file = spoiled.root / "pot-search-1.yaml"
    written = yaml.safe_load(file.read_text())
    assert written["name"] == "pot-search-1"
    assert written["steps"][0] == {"export": {"precision": "fp32"}}
    assert list(written["steps"][1]) == ["press"]
    assert "search" not in written
    assert written["checks"] == {"size_mb": 0.202, "map_drop": 0.005, "fidelity": 0.99}
    assert "Found by `yolodeploy search pot.yaml`, trial " in file.read_text()
    assert "searched on 3   judged on 3 others" in file.read_text()
    assert spoiled.run("deploy", "pot-search-1.yaml").code == 0  # on all images, with its checks
    # Steps of trials are those of any other plan: nothing is made twice.
    assert spoiled.log.count("load") == 1
    assert spoiled.log.count("export") == 2


def test_the_same_seed_proposes_the_same_and_another_others(
    spoiled: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoiled.write("pyproject.toml", "")  # the folder below is of the same project
    first = _good(spoiled)
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(tmp_path / "another"))
    again = _good(spoiled, "-o", "elsewhere")
    assert _steps(again) == _steps(first)
    texts = [Path(row["recipe"]).read_text() for row in first["front"][1:]]
    assert (
        "model: {weights: ../model.clay, imgsz: 64}"
        in Path("elsewhere/pot-search-1.yaml").read_text()
    )
    assert spoiled.run("check", "elsewhere/pot-search-1.yaml").code == 0
    other = _good(spoiled, "--seed", "1", "-o", "third")
    assert _steps(other) != _steps(first)
    assert len(texts) == len(first["front"]) - 1


def test_a_search_that_is_over_is_not_searched_again_and_a_larger_budget_goes_on(
    spoiled: World,
) -> None:
    first, log = _good(spoiled, "--trials", "4"), spoiled.log
    again = _good(spoiled, "--trials", "4")
    assert (again["front"], spoiled.log) == (
        first["front"],
        log,
    )  # the same recipes, not overwritten
    assert len(list(spoiled.root.glob("pot-search-*.yaml"))) == len(first["front"]) - 1
    Path("pot-search-1.yaml").write_text("mine")
    more = _good(spoiled)
    assert _steps(more)[:4] == _steps(first)
    assert Path("pot-search-1.yaml").read_text() == "mine"
    assert Path(more["front"][1]["recipe"]).name == "pot-search-2.yaml"


def test_a_budget_that_ends_within_a_batch_can_be_raised(spoiled: World) -> None:
    counts = [len(_good(spoiled, "--trials", trials)["tried"]) for trials in ("2", "3", "6")]
    assert counts == [2, 3, 6]


def test_a_search_that_is_killed_again_and_again_comes_to_the_same_end(
    spoiled: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed where something is noted of a trial: when it is proposed, tried or told."""
    from optuna.storages import JournalStorage

    copy_world(spoiled.root, tmp_path / "whole")
    monkeypatch.chdir(tmp_path / "whole")
    whole = _steps(_good(spoiled))
    monkeypatch.chdir(spoiled.root)
    noted = JournalStorage.set_trial_user_attr
    for after in (1, 3, 2, 2, 4):
        calls: list[Any] = []

        def note(*given: Any, calls: list[Any] = calls, after: int = after) -> None:
            calls.append(given)
            if len(calls) == after:
                raise KeyboardInterrupt
            noted(*given)

        with monkeypatch.context() as killed:
            killed.setattr(JournalStorage, "set_trial_user_attr", note)
            assert _search(spoiled).code == 130
        with Path("search/pot.journal").open("a") as journal:
            journal.write('{"op_code": 5, "half a li')  # what a kill may leave
    assert _steps(_good(spoiled)) == whole


def test_hopeless_trials_go_no_further(spoiled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.trials.stages.FEW", 1)
    spoiled.recipe(extra=SPACE.replace("{size_mb, map_drop}", "{size_mb: 0.3, map_drop: 0.1}"))
    found = _good(spoiled)
    stages = {
        json.dumps(trial["steps"]): (trial["stage"], trial["images"]) for trial in found["tried"]
    }
    assert stages['[{"export": {"precision": "fp32"}}]'] == ("size", 0)
    assert stages['[{"export": {"precision": "fp16"}}]'] == ("few", 1)
    gone = next(trial for trial in found["tried"] if trial["stage"] == "size")
    assert gone["why"] == "0.40 MB is over the limit of 0.3"
    gone = next(trial for trial in found["tried"] if trial["stage"] == "few")
    assert gone["why"].startswith("map_drop 0.")
    assert gone["why"].endswith("on 1 images is far from the limit of 0.1")
    (best,) = found["front"]
    assert best["searched"]["map_drop"]["value"] == 0
    assert best["held_out"]["images"] == 3


def test_limits_that_nothing_keeps(spoiled: World) -> None:
    spoiled.recipe(extra=SPACE.replace("{size_mb, map_drop}", "{size_mb: 0.001}"))
    result = _search(spoiled, "--trials", "4")
    assert result.code == 1
    assert "No recipe that was tried keeps all limits. The recipe itself:" in result.out
    assert not list(spoiled.root.glob("pot-search-*"))
    assert "No recipe that was tried keeps all limits." in Path("search/pot.html").read_text()


def test_a_space_that_is_exhausted_ends(spoiled: World) -> None:
    spoiled.recipe(extra=SPACE.replace(PRESS, "press"))
    found = _good(spoiled)
    assert (len(found["tried"]), found["exhausted"]) == (4, True)


def test_a_trial_that_fails_is_one_of_many(spoiled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe itself is without the step that breaks."""
    spoiled.recipe(("  - press: {strength: 0.25}\n", ""), extra=SPACE)
    monkeypatch.setenv("CLAY_FAULT", "press:raise")
    result = _search(spoiled, "--trials", "4")
    assert result.code == 0, result.err
    assert "impossible to build" in result.out
    assert "given up: `press` of kiln failed: " in result.err
    assert "error: " not in result.err


def test_timed_trials(spoiled: World) -> None:
    spoiled.recipe(extra=SPACE.replace("map_drop", "latency_ratio"))
    found = _good(spoiled, "--trials", "4")
    assert all(t["figures"]["latency_ratio"]["value"] > 0 for t in found["tried"])
    assert found["tried"][0]["figures"]["latency_ratio"]["interval"]


def test_the_page_escapes_what_it_shows(spoiled: World) -> None:
    spoiled.recipe(extra=SPACE + "name: pot-<b>\n".replace("<b>", "b"))
    _good(spoiled, "--trials", "4")
    page = Path("search/pot-b.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert "src=" not in page
    assert "@import" not in page
    assert "export(precision: fp32)" in page


REFUSED = {
    "no block": (
        "",
        "pot.yaml: has no `search:` block. Add one, or name a file that is one: --space FILE",
        2,
    ),
    "empty": (
        "search:\n  steps: [export]\n  objectives: {size_mb}\n",
        "pot.yaml:12:1: nothing in the search block may vary. Write a value as {choice: [...]} or {from: ..., to: ...}, or "
        "steps as `one_of:`.",
        3,
    ),
    "no objective": (
        SPACE.replace("{size_mb, map_drop}", "{}"),
        "pot.yaml:18:3: `objectives` names nothing to improve. Choose from size_mb, map_drop, top1_drop, fidelity, "
        "latency_ratio, latency_ms.",
        2,
    ),
    "another objective": (
        SPACE.replace("map_drop", "speed"),
        "pot.yaml:18:25: unknown key `speed`. Allowed: size_mb, map_drop, top1_drop, fidelity, latency_ratio, latency_ms.",
        2,
    ),
    "another task's": (
        SPACE.replace("map_drop", "top1_drop"),
        "pot.yaml:18:25: `top1_drop` is nothing that a model for `detect` has. Write `map_drop` instead.",
        3,
    ),
    "no device": (
        SPACE.replace("map_drop", "latency_ms"),
        "pot.yaml:18:25: `latency_ms` is measured on the target device alone, and no host was named. Add `--on HOST` (see "
        "`yolodeploy hosts`), or search for `latency_ratio`.",
        3,
    ),
    "unknown step": (
        SPACE.replace(PRESS, "glue"),
        "pot.yaml:17:11: no recipe of this space is possible with this way: there is no step `glue`. Allowed: ",
        3,
    ),
    "unknown parameter": (
        SPACE.replace("strength", "force"),
        "pot.yaml:17:11: no recipe of this space is possible with this way: unknown key `force`. Allowed: strength, method.",
        3,
    ),
    "contradicts the device": (
        SPACE.replace(PRESS, "press: {method: {choice: [flat, round]}}"),
        "pot.yaml:17:19: no recipe of this space is possible with `method: round`: Kiln A (2021) cannot press `round`. Write "
        "method: flat.",
        3,
    ),
    "outside the range": (
        SPACE.replace("to: 0.9", "to: 1.5"),
        "pot.yaml:17:19: no recipe of this space is possible with `strength: 1.5`: `strength: 1.5` must be at most 1.",
        3,
    ),
    "turned round": (
        SPACE.replace("from: 0.1", "from: 1"),
        'pot.yaml:17:11: `{"from": 1, "to": 0.9}` is empty: `from` must be less than `to`.',
        2,
    ),
    "no choice": (
        SPACE.replace("[fp16, fp32]", "[]"),
        'pot.yaml:14:7: `{"choice": []}`: `choice` must be a list of at least one value.',
        2,
    ),
    "one way": (
        SPACE.replace(f"        - {PRESS}\n", ""),
        "pot.yaml:15:7: `one_of` must be a list of at least two ways to go on; `nothing` is one.",
        2,
    ),
    "misspelt": (
        SPACE.replace("  objectives", "  objektives"),
        "pot.yaml:18:3: unknown key `objektives`. Perhaps you meant `objectives`.",
        2,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_refused_before_anything_runs(world: World, case: str) -> None:
    block, message, code = REFUSED[case]
    world.recipe(extra=block)
    result = _search(world)
    assert (result.code, world.log) == (code, [])
    assert message in result.error
    if block and case != "no device":
        checked = world.run("check", "pot.yaml")
        assert (checked.code, checked.error) == (code, result.error)


def test_hundreds_of_values_are_planned_without_a_file_for_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[Path]()
    monkeypatch.setattr(
        load, "load_yaml", lambda path, **more: read.append(path) or load_yaml(path, **more)
    )
    values = ", ".join(f"{index / 1000}" for index in range(1, 500))
    many = SPACE.replace("{from: 0.1, to: 0.9}", f"{{choice: [{values}, 1.5]}}")
    world.recipe(extra=many)
    result = world.run("check", "pot.yaml")
    assert result.code == 3
    assert result.error == (
        "pot.yaml:17:19: no recipe of this space is possible with `strength: 1.5`: `strength: 1.5` must be at most 1."
    )
    assert "plan the space ..." in result.err
    assert [path.name for path in read] == ["pot.yaml"]


def test_objectives_that_no_label_or_runtime_measures(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.recipe(extra=SPACE.replace("map_drop", "latency_ratio"))
    monkeypatch.setenv("CLAY_FAULT", "runtime:untimed")
    result = _search(world)
    assert result.code == 3
    assert (
        "`latency_ratio` is measured by nothing here: the speed of clay says nothing"
        in result.error
    )
    for label in world.root.glob("data/labels/val/*"):
        label.unlink()
    world.recipe(extra=SPACE)
    result = _search(world)
    assert result.error == (
        "pot.yaml:18:25: `map_drop` needs labels, and no evaluation image has any. Search for `fidelity` instead, which needs none."
    )


def test_the_journal_of_another_search_is_refused(spoiled: World) -> None:
    _good(spoiled, "--trials", "4")
    other = _search(spoiled, "--seed", "7")
    journal = Path("search/pot.journal")
    assert (other.code, other.error) == (
        9,
        "search/pot.journal is the journal of another search (other seed): remove it to search from the beginning, or write "
        "elsewhere with -o.",
    )
    spoiled.recipe(extra=SPACE.replace("to: 0.9", "to: 0.8"))
    assert "(other search space)" in _search(spoiled).error
    spoiled.weights(padding=30000)
    spoiled.recipe(extra=SPACE)
    assert "(other weights)" in _search(spoiled).error
    journal.write_text("not a journal\nat all\n")
    damaged = _search(spoiled)
    assert damaged.code == 9
    assert damaged.error.startswith(
        "search/pot.journal: cannot be read as the journal of a search: "
    )


def test_why_the_data_of_a_space_cannot_be_used(world: World) -> None:
    images = "  data: {calibration: {images: {from: 1, to: 100000}}}\n"
    world.recipe(extra=SPACE.replace("  objectives", f"{images}  objectives"))
    found = _search(world)
    assert found.code == 3
    assert "the recipe asks for 50000 images of `train`, which has 4." in found.error


def _record(code: int, **more: object) -> str:
    return json.dumps({"op_code": code, "worker_id": "1", **more}) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "notes without an end",
        "[]\n",
        _record(0, study_name="mine", directions=[1]),
        _record(0, study_name="search", directions=[1])
        + _record(2, study_id=0, user_attr={"about": "mine"}),
        _record(0, study_name="search", directions=[1]) + _record(4, study_id=0),
    ],
)
def test_a_file_that_no_search_began_stays_as_it_is(spoiled: World, text: str) -> None:
    journal = spoiled.write("search/pot.journal", text)
    found = _search(spoiled)
    assert found.code == 9, found.err
    assert "emove it to search from the beginning" in found.error
    assert journal.read_text().startswith(text)


def test_a_space_of_its_own_and_a_recipe_with_a_block_that_is_deployed(world: World) -> None:
    """A deployment does what the steps say; recipes that extend this one do not inherit the block."""
    world.write("space.yaml", "\n".join(line[2:] for line in SPACE.splitlines()[1:]))
    assert _search(world, "--space", "space.yaml", "--trials", "4").code == 0
    world.recipe(extra=SPACE)
    plan = world.plan()
    world.recipe()
    assert [step.id for step in plan.steps] == [step.id for step in world.plan().steps]
    world.recipe(extra=SPACE)
    world.write("child.yaml", "extends: pot.yaml\nname: child\n")
    assert "has no `search:` block" in _search(world, name="child.yaml").error
    world.write("space.yaml", "steps: [export]\nobjectives: {size_mb}\nbudget: {trails: 3}\n")
    result = _search(world, "--space", "space.yaml")
    assert (
        result.error
        == "space.yaml:3:10: unknown key `trails`. Perhaps you meant `trials`. Allowed: trials, minutes."
    )


def test_from_python(spoiled: World) -> None:
    import yolodeploy as yd

    desk = yd.Session(in_process=True, verbosity=-1)
    found = yd.search("pot.yaml", trials=4, session=desk)
    assert repr(found) == "<Searched pot: 4 tried, 2 on the front>"
    assert [judged.tried.number for judged in found.front] == [0, 4]
    assert found.front[1].held_out["map_drop"].value == 0
    assert (found.page, found.figures) == (Path("search/pot.html"), Path("search/pot.json"))
    assert json.loads(found.figures.read_text())["front"] == json.loads(
        json.dumps(found.plain()["front"])
    )
    assert "pot-search-1.yaml" in found._repr_html_()
    assert spoiled.run("check", str(found.front[1].recipe)).code == 0


def test_without_optuna(spoiled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.system.distributions._version", lambda _: "missing")
    result = _search(spoiled)
    assert result.code == 4
    assert result.error == (
        "`yolodeploy search` cannot run here: optuna not installed. Run: pip install 'yolodeploy[search]'."
    )


def test_latencies_on_the_device_itself(spoiled: World) -> None:
    from elsewhere import Elsewhere

    from yolodeploy.execution import Run
    from yolodeploy.jobs import Here
    from yolodeploy.store import Store
    from yolodeploy.system import Console
    from yolodeploy.trials import Wish, search_recipe

    spoiled.recipe(extra=SPACE.replace("map_drop", "latency_ms"))
    wish = Wish(Elsewhere().request(spoiled), Path("search"), trials=4)
    about = Run(["search"], ["pot.yaml"], None, json=False)
    found = search_recipe(wish, Store(spoiled.cache, print), Console(-1), Here(), about)
    assert all(tried.outcome.figures["latency_ms"].value > 0 for tried in found.tried)
    assert found.own.held_out["latency_ms"].value > 0


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("map_drop", -0.00001, "+0.0000"),
        ("map_drop", -0.0004, "-0.0004"),
        ("size_mb", 0.584, "0.58"),
    ],
)
def test_a_drop_that_rounds_to_nothing_has_no_minus(name: str, value: float, text: str) -> None:
    from yolodeploy.trials.talk import shown_figure

    assert shown_figure(name, value) == text
