"""What to begin with on an Intel processor, as docs/techniques.md has it."""

from __future__ import annotations

from yolodeploy.backend import Advice, AdvisedStep, Situation, Target

SUGGESTED = "core-ultra-200s"
_INT8 = (
    "Computes in 8-bit integers, with ranges from the calibration images: a quarter of the size, and faster where the processor has "
    "8-bit dot products (YOLOv8n on COCO: 0.41 times the latency, 0.002 mAP lost)."
)
_WEIGHTS = (
    "Stores the weights in 8 bits: a quarter of the size. The processor computes in floating point."
)


def advise(situation: Situation, target: Target) -> Advice:
    """8-bit integers where the processor multiplies them fast and there are images to calibrate with, else 8-bit weights."""
    export = AdvisedStep("export", {"precision": "fp32"}, "The next step makes integers of it.")
    millions, vnni = situation.parameters, "vnni" in target.device.features
    if vnni and situation.calibration:
        more = (
            "If it loses too much: `quantize: {max_drop: 0.01}` looks for the layers that cost most and leaves them in fp32.",
            "If speed is what you want, demand it: `latency_ratio: 0.9` in `checks`.",
        )
        steps = (export, AdvisedStep("quantize", why=_INT8))
        return Advice(steps, 1.6 * millions + 1.2, 0.03, 0.85, more)
    why = _WEIGHTS if vnni else f"{_WEIGHTS} Without VNNI integers would hardly be faster."
    steps = (export, AdvisedStep("compress_weights", why=why))
    return Advice(steps, 1.6 * millions + 1.2, 0.02, 0.9)
