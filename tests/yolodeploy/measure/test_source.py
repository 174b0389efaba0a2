"""The source model's findings are a stored result: other recipes with the same model and images reuse them."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from world import World, objects

from yolodeploy.store.objects import read_meta
from yolodeploy.tasks import Key, Measure, read_measures

COSTS = {Key.LATENCY, Key.LATENCY_P90, Key.PEAK_MEMORY, Key.LATENCY_RATIO, Key.SPEEDUP}
OTHER = ("- press: {strength: 0.25}", "- press: {strength: 0.5}")


def _accuracy(report: dict[str, Any]) -> list[Measure]:
    return [measure for measure in read_measures(report["measures"]) if measure.key not in COSTS]


def _refuse(*_: object) -> NoReturn:
    raise AssertionError("the source model is opened again")


def test_another_recipe_does_not_run_the_source_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.weights(damage={"fp16": {"shift": 3.0, "noise": 0.125}})
    world.good()
    world.recipe(OTHER, ("kiln-a", "kiln-b"))
    alone = _accuracy(world.good("--json", "--cache", str(world.root / "fresh")).json)
    with monkeypatch.context() as patch:
        patch.setattr("clay.open", _refuse)
        assert _accuracy(world.good("--json").json) == alone
    assert alone[0].loss


@pytest.mark.parametrize("change", ["images", "imgsz", "weights", "tools"])
def test_findings_are_of_one_model_and_one_set_of_images(
    world: World, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    world.good()
    if change == "images":
        world.recipe(("{split: val}", "{split: val, images: 5}"))
    elif change == "imgsz":
        world.recipe(("imgsz: 64", "imgsz: 96"))
    elif change == "weights":
        world.weights(width=5)
    else:
        monkeypatch.setenv("CLAY_VERSION", "1.1")
    monkeypatch.setattr("clay.open", _refuse)
    assert "the source model is opened again" in world.deploy().err


def test_a_broken_artifact_leaves_no_findings_and_damaged_ones_are_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "infer:nan")
    assert "values that are not finite" in world.deploy().error
    assert not _findings(world)
    monkeypatch.delenv("CLAY_FAULT")
    before = _accuracy(world.good("--json").json)
    (home,) = _findings(world)
    (home / "data" / "outputs.npy").write_bytes(b"damaged")
    world.recipe(OTHER)
    result = world.good("--json")
    assert "is damaged" in result.err
    assert _accuracy(result.json) == before


def _findings(world: World) -> list[Any]:
    described = [(home, read_meta(home)) for home in objects(world.cache)]
    return [home for home, meta in described if meta and meta.format == "source"]


def test_raw_outputs_are_compared_on_a_few_images_and_the_report_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.tasks.findings.COMPARED", 2)
    table = world.good().out
    assert "on 2 of 6 images" in " ".join(table.split())
    report = world.good("--json").json
    assert report["evidence"]["output_diff"]["images"] == 2
    compared = [m for m in read_measures(report["measures"]) if m.key == Key.OUTPUT_DIFF]
    assert [measure.count for measure in compared] == [2, 2, 2]
    assert report["evidence"]["images"] == 6
