"""What to begin with in ONNX Runtime, as docs/techniques.md has it."""

from __future__ import annotations

from yolodeploy.backend import Advice, AdvisedStep, Situation, Target

SUGGESTED = "linux-x64"
# Below both, every operator costs about the same, and int8 adds some (docs/recipes.md, "On ONNX Runtime").
_SMALL_MODEL, _SMALL_IMAGE = 1.0, 320 * 320  # millions of parameters, pixels
_INT8 = (
    "Computes in 8-bit integers, with ranges from the calibration images: a quarter of the size, and faster where the processor has "
    "8-bit dot products."
)
_W8 = (
    "Stores the weights in 8 bits: a quarter of the size. The processor computes in floating point."
)


def advise(situation: Situation, target: Target) -> Advice:
    """8-bit integers where that makes a model faster and there are images to calibrate with, else 8-bit weights."""
    export = AdvisedStep("export", {"precision": "fp32"}, "The next step makes integers of it.")
    millions, features = situation.parameters, target.device.features
    small = millions < _SMALL_MODEL and situation.imgsz.pixels < _SMALL_IMAGE
    slow = "avx2" in features and "vnni" not in features
    if situation.calibration and not small and not slow:
        more = "If it loses too much, `quantize: {min_sqnr: 28}` keeps more layers in floating point; `w8` keeps all."
        steps = (export, AdvisedStep("quantize", why=_INT8))
        return Advice(steps, 1.8 * millions + 0.6, 0.03, 0.85, (more,))
    why = f"{_W8} In a model as small as this one, integers would not be faster." if small else _W8
    return Advice((export, AdvisedStep("w8", why=why)), 1.5 * millions + 0.6, 0.02, 0.9)
