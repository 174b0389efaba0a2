"""A model of another project ships to four backends by recipes that differ in the line of the target."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnxsim", reason="not installed. Run: pip install 'yolodeploy[onnx]'")

import onnx_models as zoo
from real_model import ROOT

from yolodeploy.cli.main import main
from yolodeploy.hosts import local, timing
from yolodeploy.worker import turns

IMAGES = 4
TARGETS = {"ios": "coreml", "android": "ncnn", "intel-cpu": "openvino", "linux-x64": "onnxruntime"}
SHARED = """
model:
  weights: yolox.onnx
  preprocess: {scale: 1, order: bgr, fit: top-left}
data: {path: data.yaml}
steps: [export: {precision: fp32}]
checks: {output_diff: 0.02}
"""
CLI = ("--cache", "cache", "--quiet")


def test_four_checked_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # No figure of latency is looked at.
    monkeypatch.setattr(local, "time_apart", timing.time_here)
    monkeypatch.setattr(turns, "SETTLE", 0.0)
    monkeypatch.setattr(turns, "BURST", 0.0)
    zoo.yolox(tmp_path)
    pictures = sorted((ROOT / "examples/shapes/data/images/val").glob("*.jpg"))[:IMAGES]
    (tmp_path / "images").mkdir()
    for picture in pictures:
        shutil.copy(picture, tmp_path / "images")
    (tmp_path / "data.yaml").write_text(f"val: images\nnames: {list(zoo.NAMES)}\n")
    (tmp_path / "shared.yaml").write_text(SHARED)
    for target, backend in TARGETS.items():
        recipe = tmp_path / f"{target}.yaml"
        recipe.write_text(f"extends: shared.yaml\nname: {target}\ntarget: {target}\n")
        assert main(["deploy", recipe.name, "--dist", "dist", *CLI]) == 0, target
        bundle = tmp_path / "dist" / target
        contract = json.loads((bundle / "contract.json").read_text())
        assert contract["letterbox"]["rule"].endswith("place at left = 0, top = 0; fill the rest")
        assert contract["scale"] in (1 / 255, 1.0)
        assert json.loads((bundle / "report.json").read_text())["backend"] == backend
        assert main(["verify", str(bundle), *CLI[2:]]) == 0
