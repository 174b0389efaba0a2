"""What single layers cost: the measure itself, and the command that shows it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from world import World

from yolodeploy.backend import Trial
from yolodeploy.compress.layer_cost import Cost
from yolodeploy.tasks.detection.noise import output_noise

RAW = np.array([[50, 20], [50, 20], [20, 10], [20, 10], [0.8, 0.4], [0.1, 0.2]], np.float32)


def test_noise_of_scores_is_relative_to_their_power() -> None:
    spoilt = RAW.copy()
    spoilt[4, 0] += 0.1
    power = 0.8**2 + 0.4**2 + 0.1**2 + 0.2**2
    assert output_noise([RAW], [spoilt]) == pytest.approx(0.01 / power, rel=1e-5)
    assert output_noise([RAW], [RAW]) == 0.0


def test_noise_of_boxes_is_relative_to_their_area_and_weighted_by_score() -> None:
    moved = RAW.copy()
    moved[0, 0] += 2  # two of four corner coordinates move by 2: mean square 2, over 20 x 20
    assert output_noise([RAW], [moved]) == pytest.approx(0.8 / 1.2 * 2 / 400, rel=1e-5)
    moved[0] = RAW[0] + [0, 2]
    assert output_noise([RAW], [moved]) == pytest.approx(0.4 / 1.2 * 2 / 100, rel=1e-5)


def test_noise_adds_up_over_scores_boxes_and_images() -> None:
    both = RAW + np.array([[2], [0], [0], [0], [0.1], [0]], np.float32)
    boxes, scores = RAW.copy(), RAW.copy()
    boxes[0], scores[4] = both[0], both[4]
    apart = output_noise([RAW], [boxes]) + output_noise([RAW], [scores])
    assert output_noise([RAW], [both]) == pytest.approx(apart, rel=1e-6)
    assert output_noise([RAW, RAW], [both, RAW]) == pytest.approx(apart / 2, rel=1e-6)


def test_level_in_decibels() -> None:
    trial = Trial("a", "head", "int8", 9)
    assert Cost(trial, 0.001).sqnr_db == pytest.approx(30)
    assert math.isinf(Cost(trial, 0.0).sqnr_db)


def test_command_shows_the_costliest_layer_first(world: World) -> None:
    result = world.run("sensitivity", "pot.yaml")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "pot: `press` of one layer alone, the costliest first"
    assert [line.split()[0] for line in lines[2:5]] == ["c", "b", "a"]
    assert lines[4].split()[-1] == "exact"
    assert max(map(len, lines)) <= 80
    page = (world.root / "sensitivity/pot.html").read_text()
    assert "<figcaption>press" in page
    assert "<code>c</code>" in page


def test_second_run_comes_from_the_store(world: World) -> None:
    first = world.run("sensitivity", "pot.yaml", "--json").json
    assert world.log.count("probe") == 1
    assert world.run("sensitivity", "pot.yaml", "--json").json == first
    assert world.log.count("probe") == 1
    world.recipe(("0.25", "0.5"))  # another probe key: everything again
    world.run("sensitivity", "pot.yaml")
    assert world.log.count("alone-c") == 2


def test_another_device_has_another_table(world: World) -> None:
    world.run("sensitivity", "pot.yaml")
    world.recipe(("kiln-a", "kiln-b"))
    world.run("sensitivity", "pot.yaml")
    assert world.log.count("probe") == 2
    assert world.log.count("alone-c") == 2


def test_layers_are_kept_one_by_one(world: World) -> None:
    world.run("sensitivity", "pot.yaml", "--images", "1")
    world.run(
        "sensitivity", "pot.yaml", "--images", "1", "--map"
    )  # the table is new, its costs are not
    assert world.log.count("alone-a") == 2  # once for the noise, once for mAP


def test_map_of_every_layer(world: World) -> None:
    result = world.run("sensitivity", "pot.yaml", "--map", "--json")
    assert result.code == 0, result.err
    drops = {row["layer"]: row["map_drop"] for row in result.json["steps"][0]["rows"]}
    assert drops["a"] == 0.0
    assert drops["c"] == pytest.approx(1 / 3, abs=1e-6)  # one of three classes is lost
    assert "mAP" in world.run("sensitivity", "pot.yaml", "--map").out.splitlines()[1]
    written = json.loads((world.root / "sensitivity/pot.json").read_text())
    assert written["steps"] == result.json["steps"]


def test_recipe_without_a_compressing_step(world: World) -> None:
    world.recipe(("  - press: {strength: 0.25}\n", ""))
    result = world.run("sensitivity", "pot.yaml")
    assert result.code == 3
    assert result.error.endswith(
        "no step of this recipe compresses single layers. Add one of: press."
    )


def test_map_needs_labelled_objects(world: World) -> None:
    for label in (world.root / "data/labels/val").iterdir():
        label.write_text("")
    result = world.run("sensitivity", "pot.yaml", "--map")
    assert result.code == 6
    assert "no evaluation image has a labelled object" in result.error


def test_number_of_images_is_what_was_used(world: World) -> None:
    assert world.run("sensitivity", "pot.yaml", "--images", "99", "--json").json["images"] == 4


def test_map_needs_labels(world: World) -> None:
    for label in (world.root / "data/labels/val").iterdir():
        label.unlink()
    result = world.run("sensitivity", "pot.yaml", "--map")
    assert "--map needs labels" in result.error


def test_probe_that_fails_names_the_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "infer:raise")
    result = world.run("sensitivity", "pot.yaml")
    assert "measuring layers of `press` failed: RuntimeError: the mould cracked" in result.error
    assert world.leftovers() == []
