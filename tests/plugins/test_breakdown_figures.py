"""The table of the chain with real tools: prune, then OpenVINO; figures against PyTorch and the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from real_model import RealModel
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import yolodeploy_openvino
from yolodeploy.backend import Counting
from yolodeploy.backend.registry import load_registry
from yolodeploy.deployment import Request, deploy
from yolodeploy.errors import StepFailed
from yolodeploy.execution.runner import Runner
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.store.store import Store
from yolodeploy.system import ImageShape
from yolodeploy.system.console import Console
from yolodeploy_torch.model.exportable import exportable
from yolodeploy_torch.model.flops import counts

RECIPE = """\
name: chain
model: {{weights: {weights}, imgsz: [128, 160]}}
data:
  path: {data}
  evaluation: {{split: val, images: 16}}
  calibration: {{split: train, images: 8}}
target: n100
steps:
  - prune: {{keep: 0.6, least: 0.4}}
  - export: {{precision: fp16}}
"""


@pytest.fixture(scope="module")
def runner(demo: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    if reason := yolodeploy_openvino.problem():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("chain")
    recipe = folder / "chain.yaml"
    recipe.write_text(RECIPE.format(weights=demo.weights, data=demo.data), encoding="utf-8")
    store = Store(folder / "cache", print)
    return Runner(plan_recipe(recipe, store.root, [Path("/")]), store, Console(-1))


@pytest.fixture(scope="module")
def report(runner: Runner) -> dict[str, Any]:
    home = runner.plan.file.path.parent / "dist"
    request = Request(runner.plan.file.path, [Path("/")], dist=home)
    return deploy(request, runner.store, runner.console).report


def _flops(folder: Path) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        exportable(folder, ImageShape(128, 160))(torch.zeros(1, 3, 128, 160))
    total: int = counter.get_total_flops()
    return total


def test_counts_are_pytorchs_and_those_of_the_files(runner: Runner, report: dict[str, Any]) -> None:
    for index, row in enumerate(report["chain"][:2]):
        folder = runner.result(index).path
        state = load_file(folder / "model.safetensors")
        learned = (t for name, t in state.items() if name.endswith((".weight", ".bias")))
        assert row["parameters"] == sum(tensor.numel() for tensor in learned)
        assert row["flops"] == _flops(folder)
        assert row["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    load, prune, export = report["chain"]
    assert 0.5 < prune["flops"] / load["flops"] <= 0.6
    assert (export["parameters"], export["flops"]) == (prune["parameters"], prune["flops"])
    bundle = runner.plan.file.path.parent / "dist" / "chain"
    shipped = (*bundle.glob("model.*"), bundle / "layers.json")
    assert export["bytes"] == sum(file.stat().st_size for file in shipped)


def test_accuracy_of_every_step_in_its_own_runtime(report: dict[str, Any]) -> None:
    load, prune, export = report["chain"]
    assert [row["runtime"] for row in report["chain"]] == ["PyTorch", "PyTorch", "OpenVINO"]
    assert load["score"] == report["evidence"]["map50_95"]["source"] > 0.75
    assert prune["drop"] == pytest.approx(load["score"] - prune["score"], abs=2e-6)
    assert prune["drop"] > 0.1  # nothing has been trained again
    assert abs(export["drop"]) < 0.02
    assert export["fidelity"] == pytest.approx(prune["fidelity"], abs=0.02)


def test_latency_is_that_of_the_targets_runtime(report: dict[str, Any]) -> None:
    load, prune, export = report["chain"]
    evidence = report["evidence"]
    assert prune["latency_ms"] < load["latency_ms"]
    assert export["latency_ms"] == evidence["latency_ms"]["median"]
    assert evidence["reference_ms"]["median"] == prune["latency_ms"]
    assert evidence["speedup"] == export["speedup"]
    assert export["speedup"] == pytest.approx(load["latency_ms"] / export["latency_ms"], rel=0.15)


def test_only_sources_count() -> None:
    backends = load_registry().backends.values()
    counting = {b.NAME for b in backends if isinstance(b, Counting)}
    assert counting == {b.NAME for b in backends if not b.DEVICES}


def test_counting_a_damaged_artifact(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps({"nodes": []}), encoding="utf-8")
    with pytest.raises(StepFailed, match="Build it again"):
        counts(tmp_path, ImageShape.square(160))
