"""`yolodeploy inspect` of bundles, and of what a plugin without `inspect` makes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from world import World

from yolodeploy.report import bundle_rows, inspection_table


def test_a_bundle_says_what_it_claims(deployed: World) -> None:
    value = deployed.run("inspect", "dist/pot", "--json").json
    claims = value["bundle"]
    assert (claims["recipe"], claims["target"]["device"]) == ("pot", "kiln-a")
    assert claims["steps"] == ["load", "export", "press"]
    assert claims["classes"] == ["red", "green", "blue"]
    assert claims["problems"] == []
    report = json.loads(Path("dist/pot/report.json").read_text())
    accuracy = next(row for row in report["measures"] if row["key"] == "map50_95")
    assert claims["accuracy"] == {key: accuracy[key] for key in ("key", "source", "artifact")}
    assert claims["task"] == "detect"
    lines = deployed.run("inspect", "dist/pot").out.splitlines()
    assert "  recipe      pot, for Kiln A (2021) (kiln-a)" in lines
    assert "  intact      every file is as the manifest lists it" in lines


def test_a_changed_bundle_is_told(deployed: World) -> None:
    Path("dist/pot/labels.txt").write_text("nothing\n")
    found = deployed.run("inspect", "dist/pot")
    assert found.code == 0
    assert "intact      no: labels.txt was changed" in found.out


@pytest.mark.parametrize("file", ["manifest.json", "report.json"])
def test_a_bundle_that_cannot_be_read_is_one_sentence(deployed: World, file: str) -> None:
    Path("dist/pot", file).write_text("[]")
    found = deployed.run("inspect", "dist/pot")
    assert (found.code, found.out) == (10, "")
    assert found.error.startswith("dist/pot is no readable bundle: ")


def test_a_plugin_that_only_reads_facts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = world.run("inspect", "model.clay")
    assert found.code == 5
    assert found.error == "the clay backend loads .clay files, but cannot inspect them: model.clay"
    clay = importlib.import_module("clay")
    monkeypatch.setattr(clay, "facts", clay.read_facts, raising=False)
    value = world.run("inspect", "model.clay", "--json").json
    assert (value["kind"], value["classes"]) == (".clay file", ["red", "green", "blue"])
    assert not value["weights_checked"]
    steps = {row["backend"]: [s["step"] for s in row["steps"]] for row in value["targets"]}
    assert steps["kiln"][:2] == ["export", "press"]


@pytest.mark.parametrize(("key", "title"), [("mask_map50_95", "mask mAP"), ("top1", "top-1")])
def test_a_bundle_names_the_score_of_its_task(deployed: World, key: str, title: str) -> None:
    """With room between the title and the figures."""
    value = deployed.run("inspect", "dist/pot", "--json").json
    value["bundle"]["accuracy"] |= {"key": key, "artifact": 0.5, "source": 0.75}
    table = inspection_table(value, (), bundle_rows(value["bundle"]))
    line = next(line for line in table.splitlines() if title in line)
    assert line.split(title)[1].startswith(" ")
    assert line.endswith("0.5000, source 0.7500, as the report says")
