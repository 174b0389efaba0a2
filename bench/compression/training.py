"""What pruning, distillation and int8 give on the demo task, with 2,000 drawn training images.

The training images are drawn by examples/shapes/generate.py into the benchmark's folder; accuracy is
measured on the 200 committed val images.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.common import DEVICES, ROOT, SHARED, Bench
from bench.process import BIN, run

SHAPES = ROOT / "examples" / "shapes"
IMAGES = 2000
PRUNE = "prune: {keep: 0.45, importance: taylor, scope: global}"
DEEP = "prune: {keep: 0.3, importance: taylor, scope: global, iterations: 4}"  # of the int8 model
AUGMENT = "augment: {flip_vertical: 0.5, scale: 0.3, translate: 0.1}"
SETTING = f"amp: true, holdout: 0, lr: 0.001, {AUGMENT}"
LONG, DEEPER, SHORT = (
    5,
    20,
    3,
)  # epochs: of the pruned, of the int8 model, to compare two ways of training
FEW = 256  # images of the comparison
SEEDS = (0, 1, 2)
CPUS = (2, 1)  # at 160 px two threads wait for each other at every layer: measured both ways
WAYS = {
    "finetune": ("finetune", ""),
    "response": ("distill", ", feature: 0"),
    "feature": ("distill", ", response: 0"),
    "distill": ("distill", ""),
}
MEMORY_GOAL = 6 * 1.073741824  # 6 GiB in GB


def training(bench: Bench) -> None:
    """The chain of three recipes, distillation against plain fine-tuning, and memory."""
    data = draw_images(bench)
    student = f"{PRUNE}}}, {{distill: {{epochs: {LONG}, {SETTING}}}"
    floats = "export: {precision: fp32}"
    for target in ("intel", "android"):
        report = deploy_trained(bench, data, f"{target}-pruned", target, f"{student}}}, {{{floats}")
        _table(report)
        _float_figures(report, target)
    deep = f"{DEEP}}}, {{distill: {{epochs: {DEEPER}, {SETTING}}}"
    for cpus in CPUS:
        with on_processors(cpus):
            report = deploy_trained(
                bench, data, "intel-int8", "intel", f"{deep}}}, {{{floats}}}, {{quantize: {{}}"
            )
        _table(report)
        _int8_figures(report)
    _seeds(bench, data)
    _memory(bench)


@contextlib.contextmanager
def on_processors(count: int) -> Iterator[None]:
    """Let commands that are started within use only so many processors, thus threads."""
    all_ = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_)


def draw_images(bench: Bench, count: int = IMAGES) -> Path:
    """Draw the training images; the data.yaml that names them and the committed val images."""
    folder = bench.work / f"shapes-{count}"
    command = [sys.executable, SHAPES / "generate.py", folder, "--train", str(count), "--val", "0"]
    subprocess.run(list(map(str, command)), check=True)
    names = (SHAPES / "data" / "data.yaml").read_text(encoding="utf-8").partition("names:")[2]
    text = f"train: images/train\nval: {SHAPES}/data/images/val\nnames:{names}"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"


def deploy_trained(
    bench: Bench,
    data: Path,
    title: str,
    target: str,
    steps: str,
    seed: int = 0,
    images: int = IMAGES,
) -> Any:
    """The report of a recipe that trains; `steps` is YAML between the first brace and the last."""
    path = bench.work / f"training-{title}.yaml"
    path.write_text(
        f"name: training-{title}\n"
        f"model: {{weights: {ROOT}/models/shapes-yolov8n.pt, imgsz: 160}}\n"
        f"data:\n  path: {data}\n  calibration: {{split: train, images: 64}}\n"
        f"  training: {{split: train, images: {images}}}\n"
        f"target: {DEVICES.get(target, target)}\nsteps: [{{{steps}}}]\nseed: {seed}\n",
        encoding="utf-8",
    )
    return bench.deploy(path)


def _table(report: dict[str, Any]) -> None:
    """Every step of the chain, as the report has it."""
    print(f"\n{report['name']}: {report['evidence']['images']} images, {report['evidence']['cpu']}")
    print("| after | parameters | FLOPs | MB | mAP50-95 | latency ms | speed |")
    print("|---|---|---|---|---|---|---|")
    for row in report["chain"]:
        print(
            f"| {row['step']} | {row['parameters'] / 1e6:.2f} M | {row['flops'] / 1e6:.0f} M "
            f"| {row['bytes'] / 1e6:.2f} | {row['map50_95']:.4f} | {row['latency_ms']:.2f} "
            f"| {row['speedup']:.2f}x |",
            flush=True,
        )


def _float_figures(report: dict[str, Any], target: str) -> None:
    first, last = report["chain"][0], report["chain"][-1]
    print(f"dense mAP50-95 {first['map50_95']:.4f} (goal >= 0.75)")
    print(f"FLOPs {last['flops'] / first['flops']:.3f} of the dense model's (goal <= 0.5)")
    print(f"drop {_drop(report)} (goal <= 0.02)")
    print(
        f"{target} float latency {1 / last['speedup']:.3f} of the dense (goal <= 0.65)", flush=True
    )


def _drop(report: dict[str, Any]) -> str:
    row = report["evidence"]["map50_95"]
    low, high = row["drop_90"]
    return f"{row['drop']:+.4f} (90 % interval {low:+.4f} to {high:+.4f})"


def _int8_figures(report: dict[str, Any]) -> None:
    first, last = report["chain"][0], report["chain"][-1]
    print(
        f"int8: {last['speedup']:.2f} times as fast as the dense fp32 export (goal >= 5), "
        f"{report['evidence']['threads']} threads"
    )
    print(f"int8: {first['bytes'] / last['bytes']:.2f} times as small as dense float32 (goal >= 6)")
    print(f"int8: drop {_drop(report)} (goal <= 0.03); dense {first['map50_95']:.4f}", flush=True)


def _seeds(bench: Bench, data: Path) -> None:
    """Distillation against plain fine-tuning from the same pruned model, as many epochs."""
    scores: dict[str, list[float]] = {name: [] for name in WAYS}
    for seed in SEEDS:
        for name, (step, extra) in WAYS.items():
            setting = f"epochs: {SHORT}, {SETTING}{extra}"
            steps = f"{PRUNE}}}, {{{step}: {{{setting}}}}}, {{export: {{}}"
            report = deploy_trained(bench, data, f"{name}-{seed}", "intel", steps, seed, FEW)
            scores[name].append(report["chain"][2]["score"])
    for name, values in scores.items():
        shown = ", ".join(f"{value:.4f}" for value in values)
        print(
            f"{name:<9} {FEW} images, {SHORT} epochs, seeds {SEEDS}: {shown}; mean {statistics.mean(values):.4f}"
        )
    gain = statistics.mean(scores["distill"]) - statistics.mean(scores["finetune"])
    print(f"distill - finetune: {gain:+.4f} (goal: better)", flush=True)


def _memory(bench: Bench) -> None:
    """Peak of a whole process that distils at 640 px, where the COCO sample is at hand."""
    weights, data = SHARED / "models" / "yolov8n-coco.pt", SHARED / "coco" / "data.yaml"
    if not weights.is_file():
        print("memory of a training step at 640 px: not measured, there is no COCO sample")
        return
    for amp in ("false", "true"):
        path = bench.work / f"memory-{amp}.yaml"
        path.write_text(
            f"model: {{weights: {weights}}}\n"
            f"data: {{path: {data}, training: {{split: train, images: 32}}}}\n"
            f"target: {DEVICES['intel']}\n"
            f"steps: [{{distill: {{epochs: 1, holdout: 0, amp: {amp}}}}}, export]\n",
            encoding="utf-8",
        )
        command = [
            BIN / "yolodeploy",
            "build",
            "--allow",
            "/",
            path,
            "-q",
            "--cache",
            bench.work / "cache",
        ]
        peak = run(command, bench.work).peak_mb / 1e3
        print(
            f"distill at 640 px, batch 16, amp {amp}: peak {peak:.2f} GB (goal <= {MEMORY_GOAL:.2f})",
            flush=True,
        )
