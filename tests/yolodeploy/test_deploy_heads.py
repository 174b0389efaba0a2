"""Heads and kept classes, from the recipe to the bundle: what is measured is what the contract tells an app."""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import numpy as np
import pytest
from world import World

from yolodeploy.bundle.bundle import seal_bundle
from yolodeploy.bundle.integrity import inspect_bundle
from yolodeploy.data.images import letterboxed_file
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.postprocess import detect
from yolodeploy.tasks.thresholds import Rules

BOTH = ["one-to-one", "one-to-many"]


@pytest.fixture
def pot(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of a model with two heads, in which every object is found by two anchors."""
    clay = importlib.import_module("clay")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    world.weights(heads=BOTH, echo=True)
    return world


def _read(world: World, name: str) -> Any:
    return json.loads((world.bundle / name).read_text(encoding="utf-8"))


def _golden(world: World) -> Any:
    """The golden detections, after they were made again from the output by the rules beside them."""
    golden = _read(world, "golden/detections.json")
    box = letterboxed_file(world.bundle / "golden" / golden["image"], ImageShape.square(64))
    output = np.load(world.bundle / "golden/output.npy")
    found = detect(output, Rules(**golden["rules"]), box, golden["layout"])
    assert [row["class"] for row in golden["detections"]] == found.classes.tolist()
    assert [row["score"] for row in golden["detections"]] == pytest.approx(found.scores.tolist())
    return golden


def test_a_one_to_one_head_keeps_what_suppression_would_drop(pot: World) -> None:
    result = pot.good()
    contract, golden, report = (
        _read(pot, n) for n in ("contract.json", "golden/detections.json", "report.json")
    )
    assert contract["head"] == "one-to-one"
    assert contract["thresholds"] == {
        "confidence": 0.25, "iou": None, "limit": 300, "multi_label": True,
    }  # fmt: skip
    told = contract["postprocess"]
    assert (told["layout"], told["nms"], told["best"]) == ("anchors", "none", 300)
    assert told["rule"].startswith("no non-maximum suppression: take the `best` anchors")
    assert _golden(pot) == golden
    assert len(golden["detections"]) == 6
    assert "best 300 pairs" in golden["output"]
    assert report["model"] == {
        "task": "detect", "head": "one-to-one", "heads": BOTH, "classes": ["red", "green", "blue"], "of": 3,
    }  # fmt: skip
    assert report["evidence"]["fidelity"] == {"value": 1.0, "objects": 36}
    note = "the one-to-one head runs, which needs no non-maximum suppression; the weights hold one-to-many, too"
    assert report["notes"] == [note]
    assert f"note            {note[:40]}" in result.out
    assert f"Note: {note}." in (pot.bundle / "report.html").read_text(encoding="utf-8")
    assert note in (pot.bundle / "bom.cdx.json").read_text(encoding="utf-8")

    pot.recipe(("imgsz: 64", "head: one-to-many"))
    pot.good()
    contract, golden = _read(pot, "contract.json"), _golden(pot)
    assert (contract["head"], contract["thresholds"]["iou"]) == ("one-to-many", 0.7)
    assert contract["postprocess"]["nms"] == "app"
    assert (len(golden["detections"]), golden["rules"]) == (3, contract["thresholds"])
    assert _read(pot, "report.json")["evidence"]["fidelity"]["objects"] == 18


def test_rows_are_compared_with_the_anchors_of_the_source(pot: World) -> None:
    pot.weights(heads=BOTH, echo=True, topk=True, damage={"fp16": {"noise": 0.01}})
    report = pot.good("--json").json
    evidence, golden, contract = report["evidence"], _golden(pot), _read(pot, "contract.json")
    assert np.load(pot.bundle / "golden/output.npy").shape == (8, 6)
    assert (golden["layout"], len(golden["detections"])) == ("rows", 6)
    told = contract["postprocess"]
    assert (told["layout"], told["nms"], told["best"]) == ("rows", "none", 300)
    assert "a row is left, top, right, bottom" in told["rule"]
    assert evidence["fidelity"] == {"value": 1.0, "objects": 36}
    assert evidence["map50_95"]["source"] == evidence["map50_95"]["artifact"]
    # the artifact orders equal scores the other way round, which is no difference
    assert evidence["output_diff"]["boxes_px"] == {"max": 0.0, "mean": 0.0}
    assert evidence["output_diff"]["scores"]["max"] == pytest.approx(0.01, abs=1e-6)
    assert pot.run("verify", "dist/pot", "--lock", "pot.lock").code == 0
    assert pot.run("deploy", "--locked", "pot.yaml").code == 0


def test_kept_classes_reach_every_file_of_the_bundle(pot: World) -> None:
    pot.weights(heads=BOTH, topk=True, damage={"fp16": {"miss": ["red"]}})
    pot.recipe(("imgsz: 64", "classes: [blue, red]"))
    result = pot.good()
    report, contract = _read(pot, "report.json"), _read(pot, "contract.json")
    assert (pot.bundle / "labels.txt").read_text(encoding="utf-8") == "blue\nred\n"
    assert (contract["classes"], contract["classes_of_the_model"]) == (2, 3)
    per_class = report["evidence"]["per_class"]
    assert [(row["name"], row["objects"]) for row in per_class] == [("blue", 6), ("red", 6)]
    assert [row["artifact"] for row in per_class] == [per_class[0]["source"], 0.0]
    assert {row["class"] for row in _golden(pot)["detections"]} == {0}
    data = report["data"]["evaluation"]
    assert (data["objects"], data["left_out"], data["background"]) == (12, 6, 0)
    assert report["model"]["classes"] == ["blue", "red"]
    assert "the artifact has 2 of the model's 3 classes: blue, red" in report["notes"]
    assert "6 labelled objects of other classes are left out" in " ".join(result.out.split())
    assert _read(pot, "plan.json")["recipe"]["model"]["classes"] == ["blue", "red"]
    assert pot.run("deploy", "--locked", "pot.yaml").code == 0


def test_layers_cost_the_same_in_rows(pot: World) -> None:
    costs = []
    for topk in (False, True):
        pot.weights(heads=BOTH, topk=topk)
        tables = pot.run("sensitivity", "pot.yaml", "--map", "--json").json["steps"]
        costs.append({row["layer"]: row for row in tables[0]["rows"]})
    anchors, rows = costs
    assert rows["a"]["sqnr_db"] is None
    assert rows["b"]["sqnr_db"] == pytest.approx(anchors["b"]["sqnr_db"], abs=0.01)
    assert rows["c"]["sqnr_db"] == pytest.approx(10 * math.log10(3), abs=0.01)  # one score of three
    assert rows["c"]["map_drop"] == pytest.approx(anchors["c"]["map_drop"])


BROKEN = {
    "infer:class": "the artifact's output names a class that is none of 0 to 2.",
    "infer:shape": "the artifact's output has the shape [7, 6], the source model's rows [8, 6].",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_rows(fault: str, pot: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pot.weights(heads=BOTH, topk=True)
    monkeypatch.setenv("CLAY_FAULT", fault)
    result = pot.deploy()
    assert result.code == 7
    assert f"for val000.png {BROKEN[fault]} The export is broken" in result.error


def test_rows_of_a_one_to_many_head(pot: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pot.weights(heads=BOTH, topk=True)
    pot.recipe(("imgsz: 64", "head: one-to-many"))
    monkeypatch.setenv("CLAY_FAULT", "export:rows")
    result = pot.deploy()
    assert result.code == 7
    assert (
        "in kiln returns rows of a one-to-many head, and only those of a one-to-one" in result.error
    )


def test_golden_vectors_by_other_rules_than_the_contracts(deployed: World) -> None:
    """Nobody can change them alone; this is what would be said of a bundle that was sealed with such vectors."""
    id_ = json.loads((deployed.bundle / "manifest.json").read_text())["id"]
    file = deployed.bundle / "golden/detections.json"
    golden = json.loads(file.read_text(encoding="utf-8"))
    for change, problem in (
        (
            {"rules": {**golden["rules"], "iou": None}},
            "follows other thresholds than contract.json",
        ),
        ({"layout": "rows"}, "is of another output than contract.json"),
    ):
        file.write_text(json.dumps({**golden, **change}), encoding="utf-8")
        seal_bundle(deployed.bundle, id_, None)
        found = inspect_bundle(deployed.bundle)
        assert f"golden/detections.json {problem}" in found.problems
