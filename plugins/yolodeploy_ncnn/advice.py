"""What to begin with on a phone or board that runs ncnn, as docs/techniques.md has it."""

from __future__ import annotations

from yolodeploy.backend import Advice, AdvisedStep, Situation, Target

SUGGESTED = "pixel-10"
_EXPORT = AdvisedStep(
    "export",
    {"precision": "fp16"},
    "Weights in fp16: half of the checkpoint's size in fp32, and nothing measurable lost.",
)
_W8 = "Stores each weight as one of 256 values of its layer, which halves the file again. The device computes in floating point."
_INT8 = "Computes in 8-bit integers, with ranges from the calibration images; layers that lose too much stay in floating point."

_SMALLER = (
    "Smaller: a step `w8` after it, which stores the layers that stayed in floating point in 8 bits, too (YOLOv8n on COCO: 3.3 MB "
    "in place of 5.2 MB)."
)
_SPEED = (
    "Whether int8 is faster depends on the phone's cores: measure there (`yolodeploy hosts`). If it is not, write `w8` in place of "
    "`quantize`: as small, and closer to the source model."
)


def advise(situation: Situation, target: Target, *, int8: bool) -> Advice:
    """8-bit integers where the processor multiplies them fast (`int8`) and there are images to calibrate with, else 8-bit weights."""
    millions = situation.parameters
    if int8 and situation.calibration:
        steps = (_EXPORT, AdvisedStep("quantize", why=_INT8))
        return Advice(steps, 2.2 * millions + 0.5, 0.03, 0.85, (_SMALLER, _SPEED))
    why = _W8 if int8 or target.gpu else f"{_W8} Here 8-bit integers would not be faster."
    return Advice((_EXPORT, AdvisedStep("w8", why=why)), 1.5 * millions + 0.5, 0.02, 0.9)
