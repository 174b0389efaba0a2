"""Quantization-aware training against post-training quantization, one training for three backends.

The demo model is pruned hard and trained on drawn images; then both ways train it as long: `finetune`
and calibration, or `qat`. Accuracy is measured on the 200 committed val images.
"""

from __future__ import annotations

from typing import Any

from bench.common import Bench
from bench.compression.training import deploy_trained, draw_images

IMAGES = 1500
BASE = "prune: {keep: 0.3}}, {finetune: {epochs: 10, lr: 0.005, amp: true, holdout: 0}"
WAYS = {"PTQ": "finetune", "QAT": "qat"}
SETTING = "{epochs: 2, lr: 0.0003, holdout: 0}"
# target, and the parameters of `quantize`
BACKENDS = {
    "openvino": ("intel", "{}"),
    "ncnn": ("android", "{min_sqnr: null}"),
    "coreml": ('{device: iphone-13, os: "17"}', "{}"),
}
GOAL = 0.5  # of what post-training quantization loses, where that is at least LOSS
LOSS = 0.01


def qat(bench: Bench) -> None:
    """One line per backend: what the float model has, and what int8 costs either way."""
    data = draw_images(bench, IMAGES)
    print("| int8 on | float | PTQ | QAT | PTQ loses | QAT recovers |")
    print("|---|---|---|---|---|---|")
    for name, (target, quantize) in BACKENDS.items():
        reports: dict[str, Any] = {}
        for way, step in WAYS.items():
            steps = f"{BASE}}}, {{{step}: {SETTING}}}, {{export: {{}}}}, {{quantize: {quantize}"
            title = f"{way.lower()}-{name}"
            reports[way] = deploy_trained(bench, data, title, target, steps, images=IMAGES)
        _line(name, reports)


def _line(name: str, reports: dict[str, Any]) -> None:
    # after load, prune, finetune and finetune
    exact = reports["PTQ"]["chain"][3]["score"]
    after = {way: report["chain"][-1]["score"] for way, report in reports.items()}
    lost, back = exact - after["PTQ"], after["QAT"] - after["PTQ"]
    goal = f" (goal >= {GOAL:.0%})" if lost >= LOSS else ""
    share = f"{back / lost:.0%}{goal}" if lost > 0 else "nothing lost"
    print(
        f"| {name} | {exact:.4f} | {after['PTQ']:.4f} | {after['QAT']:.4f} | {lost:+.4f} | {share} |",
        flush=True,
    )
