"""The table of the chain: what every step bought and cost, and the checks of single steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world import World

from yolodeploy.tasks.detection import Detections, load_found, save_found

STEPS = "  - export: {precision: fp16}\n"
TRIMMED = (STEPS, "  - trim: {width: 2, miss: [red]}\n" + STEPS)
MENDED = (STEPS, "  - trim: {width: 2, miss: [red]}\n  - trim: {width: 2, mend: true}\n" + STEPS)


def _rows(world: World) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = world.good("--json").json["chain"]
    return rows


def _column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_every_step_is_measured_in_its_own_runtime(world: World) -> None:
    world.recipe(TRIMMED)
    rows = _rows(world)
    assert _column(rows, "step") == ["load", "trim", "export", "press"]
    assert _column(rows, "format") == ["clay", "clay", "brick", "brick"]
    assert _column(rows, "at") == ["pot.yaml:2", "pot.yaml:10", "pot.yaml:11", "pot.yaml:12"]
    assert _column(rows, "parameters") == [40, 20, 20, 20]
    assert _column(rows, "flops") == [2 * 10 * 4 * 64**2] + [2 * 10 * 2 * 64**2] * 3
    whole, *others = _column(rows, "score")
    assert others == [pytest.approx(whole - rows[1]["drop"], abs=2e-6)] * 3
    assert rows[1]["drop"] > 0.25
    assert _column(rows[2:], "drop") == [0, 0]
    assert _column(rows[1:], "fidelity") == [pytest.approx(2 / 3, abs=1e-6)] * 3
    assert rows[0]["reasons"].keys() == {"drop", "fidelity"}
    assert [row["reasons"] for row in rows[1:]] == [{}] * 3
    _require_sizes_of_the_files(world, rows)


def _require_sizes_of_the_files(world: World, rows: list[dict[str, Any]]) -> None:
    sizes: dict[str, set[int]] = {}
    for meta in world.cache.glob("objects/??/*/meta.json"):
        known = json.loads(meta.read_text())
        size = sum(file.stat().st_size for file in (meta.parent / "data").rglob("*.*"))
        sizes.setdefault(known["step"], set()).add(size)
    for row in rows:
        assert row["bytes"] in sizes[row["step"]]
    shipped = [world.bundle / name for name in ("brick.json", "weights.bin")]
    assert rows[-1]["bytes"] == sum(file.stat().st_size for file in shipped)


def test_latencies_tell_what_a_step_before_the_export_bought(world: World) -> None:
    world.weights(seconds=0.001)
    world.recipe(TRIMMED, extra="checks: {speedup: 1.5, latency_ratio: 1.5}\n")
    result = world.good("--json")
    rows, evidence = result.json["chain"], result.json["evidence"]
    assert rows[0]["speedup"] == 1
    for row in rows[1:]:  # width 4 takes 4 ms, width 2 half of it
        assert row["latency_ms"] < 0.8 * rows[0]["latency_ms"]
        assert row["speedup"] == pytest.approx(rows[0]["latency_ms"] / row["latency_ms"], rel=0.1)
    assert evidence["speedup"] == rows[-1]["speedup"] > 1.5
    assert evidence["latency_ratio"] > 0.7  # against the trimmed model's fp32 export
    assert [check["ok"] for check in result.json["checks"]] == [True, True]


def test_a_speedup_that_is_not_reached_fails(deployed: World) -> None:
    deployed.recipe(extra="checks: {speedup: 50}\n")
    result = deployed.deploy()
    assert result.code == 1
    assert "below the limit of 50. Prune more, or choose a form" in result.error
    assert deployed.log == []  # and nothing is measured anew


def test_the_table_on_the_terminal_and_on_the_page(world: World) -> None:
    world.recipe(TRIMMED)
    out = world.good().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "step             params FLOPs" in out
    head, *rows = [line for line in out.splitlines() if line[2:18].strip() in (
        "step", "load", "trim", "export", "press")]  # fmt: skip
    assert head.split() == [
        "step", "params", "FLOPs", "MB", "mAP50-95", "drop", "fidelity", "ms", "speed",
    ]  # fmt: skip
    assert [row.split()[:3] for row in rows] == [
        ["load", "40", "328k"], ["trim", "20", "164k"], ["export", "20", "164k"],
        ["press", "20", "164k"],
    ]  # fmt: skip
    assert "Accuracy measured: load, trim, export, press in clay." in out
    page = (world.bundle / "report.html").read_text()
    assert "<figcaption>Size, step by step" in page
    assert "<figcaption>mAP50-95 lost, step by step" in page
    assert page.count('<td class="n">164k</td>') == 3


def test_a_plain_chain_costs_nothing_and_shows_no_table(deployed: World) -> None:
    result = deployed.good("--json")
    load, export, press = result.json["chain"]
    assert export["parameters"] == 40
    assert press["score"] == load["score"]
    for name in ("score", "drop", "fidelity", "latency_ms"):
        assert export[name] is None
        assert "measured only if" in export["reasons"][name]
    assert press["drop"] is None
    assert "params FLOPs" not in deployed.good().out
    assert not list(deployed.cache.glob("objects/??/*/data/stage.json"))


def test_a_step_is_measured_once(world: World) -> None:
    world.recipe(TRIMMED)
    first = world.good("--json")
    assert "measure the result of `trim`" in first.err
    world.recipe(TRIMMED, ("0.25", "0.5"))
    second = world.good("--json")
    assert "measure 6 images" in second.err
    assert "measure the result" not in second.err
    for before, after in zip(first.json["chain"][:3], second.json["chain"][:3], strict=True):
        assert {k: v for k, v in before.items() if k not in ("latency_ms", "speedup")} == {
            k: v for k, v in after.items() if k not in ("latency_ms", "speedup")
        }


def test_other_bytes_of_a_step_are_measured_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training step may give other bytes when its result was lost and is made again."""
    world.recipe(extra="checks: {step_drop: {export: 1}}\n")
    world.good()
    export = world.plan().steps[1].id
    shutil.rmtree(world.cache / "objects" / export[:2] / export)
    monkeypatch.setenv("CLAY_FAULT", "export:random")
    assert "measure the result of `export`" in world.deploy().err


def test_a_step_that_loses_too_much_fails_by_name_and_line(world: World) -> None:
    world.recipe(TRIMMED, extra="checks: {step_drop: {trim: 0.1, press: 0}}\n")
    result = world.deploy()
    assert result.code == 1
    (line,) = result.error.splitlines()[1:]
    assert line.startswith("  step_drop.trim (pot.yaml:10): 0.")
    assert line.endswith(
        "over the limit of 0.1. Let the step train longer, cut or compress less; or allow a larger drop."
    )
    assert "ok     step_drop.press 0 (limit 0, pot.yaml:12)" in result.out


def test_a_negative_limit_demands_a_gain_of_every_step_of_that_name(world: World) -> None:
    world.recipe(MENDED, extra="checks: {step_drop: {trim: -0.1}}\n")
    result = world.deploy("--json")
    lost, gained = result.json["report"]["checks"]
    assert (lost["ok"], gained["ok"]) == (False, True)
    assert (lost["note"], gained["note"]) == ("pot.yaml:10", "pot.yaml:11")
    assert gained["value"] == pytest.approx(-lost["value"], abs=2e-6)


def test_step_drop_measures_a_plain_chain_too(world: World) -> None:
    world.weights(damage={"fp16": {"shift": 3.0}})
    world.recipe(extra="checks: {step_drop: {export: 1, press: 0}}\n")
    load, export, press = _rows(world)
    assert export["drop"] == pytest.approx(load["score"] - export["score"], abs=2e-6)
    assert export["drop"] > 0.1
    assert press["drop"] == 0


def test_step_drop_of_a_step_that_is_not_there(world: World) -> None:
    world.recipe(extra="checks:\n  step_drop: {pres: 0.1}\n")
    result = world.run("check", "pot.yaml")
    assert (result.code, result.error) == (
        3,
        (
            "pot.yaml:13:15: `step_drop` names `pres`, which is not a step of this recipe. Perhaps you meant "
            "`press`. Allowed: export, press."
        ),
    )


def test_without_labels_a_drop_is_not_measured(world: World) -> None:
    shutil.rmtree(world.root / "data/labels")
    world.recipe(TRIMMED, extra="checks: {step_drop: {trim: 0.1}}\n")
    result = world.deploy()
    assert result.error.splitlines()[1:] == [
        "  step_drop.trim: not measured (the evaluation images have no labels; pot.yaml:10), so the check "
        "cannot pass. Remove it or provide the data."
    ]
    said = " ".join(result.out.split())
    assert (
        "Not measured: mAP50-95 of load, trim, export, press; drop of trim, export, press: the evaluation "
        "images have no labels."
    ) in said


def test_a_first_model_that_finds_nothing_proves_nothing(world: World) -> None:
    world.weights(miss=["red", "green", "blue"])
    world.recipe(TRIMMED, extra="checks: {step_drop: {trim: 0.1}}\n")
    assert "finds none of the labelled objects" in world.deploy().error


def test_a_runtime_whose_speed_says_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "runtime:untimed")
    world.recipe(TRIMMED, extra="checks: {speedup: 0.01}\n")
    result = world.deploy("--json")
    rows = result.json["report"]["chain"]
    reason = "the speed of clay says nothing about the device"
    assert _column(rows, "latency_ms") == _column(rows, "speedup") == [None] * 4
    assert all(row["reasons"]["speedup"] == reason for row in rows)
    assert result.json["report"]["checks"][0]["note"] == reason
    assert world.log.count("export") == 2  # the artifact's and the reference, no other


def test_a_source_that_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("clay.count")
    world.recipe(TRIMMED)
    for row in _rows(world):
        assert (row["parameters"], row["flops"]) == (None, None)
        assert row["reasons"]["flops"] == "the clay plugin does not count them"


def test_a_model_in_between_that_is_broken(world: World) -> None:
    world.recipe((STEPS, "  - trim: {crack: true}\n" + STEPS))
    result = world.deploy()
    assert (result.code, result.error) == (
        7,
        (
            "pot.yaml:10:5: for val000.png the output of the result of `trim` has values that are not finite. "
            "Change the step's parameters, or report it with the recipe."
        ),
    )


def test_detections_come_back_image_by_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [
        Detections(rng.random((n, 4), np.float32), rng.random(n, np.float32), rng.integers(0, 9, n))
        for n in (3, 0, 2)
    ]
    save_found(tmp_path / "x.npz", Detections, images)
    found = load_found(tmp_path / "x.npz", Detections)
    for before, after in zip(images, found, strict=True):
        for name in ("boxes", "scores", "classes"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
