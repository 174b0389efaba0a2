"""What to begin with on a phone of Apple's, as docs/techniques.md has it."""

from __future__ import annotations

from yolodeploy.backend import Advice, AdvisedStep, Situation, Target
from yolodeploy_coreml.devices import ios_format

SUGGESTED = "iphone-17"
_PALETTES = 16  # the first iOS that reads compressed weights
_EXPORT = "Weights in fp16: half of the checkpoint's size in fp32, and nothing measurable lost."


def advise(situation: Situation, target: Target) -> Advice:
    """Palettes of 256 values: a quarter of the size in fp32. Packages for older systems stay in fp16."""
    export = AdvisedStep("export", {"precision": "fp16"}, _EXPORT)
    millions = situation.parameters
    if ios_format(target) < _PALETTES:
        more = f"From iOS {_PALETTES} on, `palettize` halves the package again: write `os:` in `target`."
        return Advice((export,), 2.3 * millions + 0.5, 0.01, 0.95, (more,))
    why = (
        "Stores each weight as one of 256 values of its layer: half of fp16 again. The phone computes in fp16, so nothing gets "
        "slower."
    )
    more = (
        "Smaller: `palettize: {optimize: accuracy}`, which looks at the calibration images and takes minutes (YOLOv8n on COCO: "
        "2.7 MB in place of 3.4 MB, fidelity 0.989)."
    )
    steps = (export, AdvisedStep("palettize", why=why))
    return Advice(steps, 1.3 * millions + 0.5, 0.02, 0.9, (more,))
