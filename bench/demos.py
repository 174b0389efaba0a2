"""int8 of every demo model on every backend, both heads where there are two, through the real path."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from common import ROOT, Bench, detectors
from process import BIN

DATA = ROOT / "examples" / "shapes" / "data" / "data.yaml"
TARGETS = {
    "openvino": ("xeon-icelake", "[{export: {precision: fp32}}, quantize]"),
    "ncnn": ("pixel-8", "[{export: {precision: fp16}}, quantize]"),
    "onnxruntime": ("linux-x64", "[{export: {precision: fp32}}, quantize]"),
    "coreml": (
        "{device: iphone-13, os: '17'}",
        "[{export: {precision: fp16}}, {quantize: {spare_dominant: true}}]",
    ),
}
DROP, FIDELITY = 0.01, 0.95


def demos(bench: Bench) -> None:
    """Drop and fidelity of each, and the layers that stayed in floating point."""
    print("| model | head | backend | size, MB | mAP50-95 | drop (90 %) | fidelity | kept float |")
    print("|---|---|---|---|---|---|---|---|")
    missed = 0
    for weights in detectors():
        for head in _heads(weights):
            for backend, (target, steps) in TARGETS.items():
                report = _report(bench, weights, head, target, steps)
                missed += _line(weights.stem, head, backend, report)
    print(f"\n{missed} of them lose more than {DROP} or have a fidelity below {FIDELITY}")


def _heads(weights: Path) -> tuple[str, ...]:
    from yolodeploy_torch.checkpoint import facts

    return facts(weights).heads


def _report(
    bench: Bench, weights: Path, head: str, target: str, steps: str
) -> dict[str, Any] | str:
    """The report of a deploy without checks; the message if it failed."""
    recipe = bench.work / "demo.yaml"
    recipe.write_text(
        f"name: demo\nmodel: {{weights: {weights}, imgsz: 160, head: {head}}}\n"
        f"data: {{path: {DATA}, calibration: {{split: train, images: 32}}}}\n"
        f"target: {target}\nsteps: {steps}\n"
    )
    dist = bench.work / "dist"
    command = [BIN / "yolodeploy", "deploy", recipe, "--allow", "/", "--json", "-q", "--dist", dist]
    command += ["--cache", bench.work / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _line(model: str, head: str, backend: str, report: dict[str, Any] | str) -> bool:
    if isinstance(report, str):
        print(f"| {model} | {head} | {backend} | {report} |", flush=True)
        return True
    evidence = report["evidence"]
    drop, fidelity = evidence["map50_95"]["drop"], evidence["fidelity"]["value"]
    low, high = evidence["map50_95"]["drop_90"]
    layers = report["interface"]["layers"]
    kept = [name for name, form in layers.items() if form != "int8"]
    print(
        f"| {model} | {head} | {backend} | {report['artifact']['bytes'] / 1e6:.2f} | {evidence['map50_95']['artifact']:.4f} | "
        f"{drop:+.4f} ({low:+.4f} to {high:+.4f}) | {fidelity:.4f} | {len(kept)} of {len(layers)} |",
        flush=True,
    )
    return bool(drop > DROP or fidelity < FIDELITY)
