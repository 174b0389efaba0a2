"""int8 of every demo model on every backend, both heads where there are two, and of every task, through the real path."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.common import ROOT, Bench, detectors
from bench.process import BIN

SHAPES = ROOT / "examples" / "shapes"
TASKS = {"segment": "seg", "pose": "pose", "obb": "obb", "classify": "cls"}
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
DROP_OF_TASKS = 0.015


def demos(bench: Bench) -> None:
    """Drop and fidelity of each, and the layers that stayed in floating point."""
    _titles()
    missed = 0
    for weights in detectors():
        for head in _heads(weights):
            for backend, (target, steps) in TARGETS.items():
                model = f"{{weights: {weights}, imgsz: 160, head: {head}}}"
                report = _report(bench, model, SHAPES / "data" / "data.yaml", target, steps)
                found = _line(weights.stem, head, backend, report)
                missed += found is None or found[0] > DROP or found[1] < FIDELITY
    print(f"\n{missed} of them lose more than {DROP} or have a fidelity below {FIDELITY}")


def demo_tasks(bench: Bench) -> None:
    """The same of the models of the other tasks: the loss of what each task scores first."""
    _titles()
    missed = 0
    for task, name in TASKS.items():
        weights, folder = ROOT / "models" / f"shapes-yolo11-{name}.pt", SHAPES / f"data-{task}"
        data = folder if task == "classify" else folder / "data.yaml"
        for backend, (target, steps) in TARGETS.items():
            report = _report(bench, f"{{weights: {weights}}}", data, target, steps)
            found = _line(weights.stem, task, backend, report)
            missed += found is None or found[0] > DROP_OF_TASKS
    print(f"\n{missed} of them lose more than {DROP_OF_TASKS}")


def _titles() -> None:
    print("| model | head | backend | size, MB | score | drop (90 %) | fidelity | kept float |")
    print("|---|---|---|---|---|---|---|---|")


def _heads(weights: Path) -> tuple[str, ...]:
    from yolodeploy_torch.checkpoint import facts

    return facts(weights).heads


def _report(bench: Bench, model: str, data: Path, target: str, steps: str) -> dict[str, Any] | str:
    """The report of a deploy without checks; the message if it failed."""
    recipe = bench.work / "demo.yaml"
    recipe.write_text(
        f"name: demo\nmodel: {model}\n"
        f"data: {{path: {data}, calibration: {{split: train, images: 32}}}}\n"
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


def _line(
    model: str, head: str, backend: str, report: dict[str, Any] | str
) -> tuple[float, float] | None:
    """Print a row; returns drop and fidelity, None if the deploy failed."""
    if isinstance(report, str):
        print(f"| {model} | {head} | {backend} | {report} |", flush=True)
        return None
    evidence = report["evidence"]
    score, fidelity = evidence[report["scores"][0]], evidence["fidelity"]["value"]
    drop, (low, high) = score["drop"], score["drop_90"]
    layers = report["interface"]["layers"]
    kept = [name for name, form in layers.items() if form != "int8"]
    print(
        f"| {model} | {head} | {backend} | {report['artifact']['bytes'] / 1e6:.2f} | {score['artifact']:.4f} | "
        f"{drop:+.4f} ({low:+.4f} to {high:+.4f}) | {fidelity:.4f} | {len(kept)} of {len(layers)} |",
        flush=True,
    )
    return float(drop), float(fidelity)
