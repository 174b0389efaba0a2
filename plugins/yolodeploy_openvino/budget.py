"""Accuracy-aware quantization: as few layers in floating point as a limit on mAP asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.accuracy import map50_95, required_score
from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.sensitivity import measure
from yolodeploy_openvino.runtime import OpenVINOPredictor

if TYPE_CHECKING:
    from yolodeploy.dataset import Dataset
    from yolodeploy_openvino.quantize import Quantizer

_MOST = 0.5  # of the convolutions; with more in float the model is no int8 model any more


def write_within(limit: float, quantizer: Quantizer, context: Context) -> None:
    """Write the first model whose mAP50-95 is at most `limit` below the float model's.

    Leaves none, 1, 2, 4, ... of the costliest layers in floating point, up to half of them.
    Judged on the labelled calibration images: chosen on the evaluation images, the model would be
    measured on what it was chosen by. Raises DataError without labels, PlanRefused if none meets
    the limit.
    """
    view = context.data["calibration"]
    if not view.labelled:
        raise DataError(
            "`max_drop` compares mAP on the calibration images, and these have no labels. Name "
            "labelled images under `data: calibration:`, or remove `max_drop`."
        )
    exact = required_score(_score(quantizer.artifact.path, view, context), "calibration")
    drops: dict[int, float] = {}
    order: list[str] = []
    for count in _counts(quantizer):
        order = order or (_costliest(quantizer, context) if count else [])
        quantizer.write(quantizer.kept.union(order[:count]), context.work)
        drops[count] = exact - _score(context.work, view, context)
        if drops[count] <= limit:
            return
    count, best = min(drops.items(), key=lambda item: item[1])
    raise PlanRefused(
        f"no setting meets `max_drop: {limit:g}`. The best was a drop of {best:.4f} on the "
        f"{len(view)} calibration images, with {count} of the costliest layers in floating point "
        f"({max(drops)} is the most that is tried). Allow that much, or ship the float export."
    )


def _costliest(quantizer: Quantizer, context: Context) -> list[str]:
    """Names of the layers that could be quantized, by falling cost."""

    def opened(artifact: Artifact) -> OpenVINOPredictor:
        return OpenVINOPredictor(artifact.path, context.target, context.threads)

    view = quantizer.view
    costs = measure(quantizer.probe(), quantizer.artifact, opened, view, context)
    return [cost.trial.layer for cost in sorted(costs, key=lambda cost: -cost.noise)]


def _counts(quantizer: Quantizer) -> list[int]:
    """0, 1, 2, 4, ... and half of the layers that the recipe leaves to quantize."""
    named = {name for name, part in quantizer.found.parts.items() if part != "decode"}
    most = int(len(named - quantizer.kept) * _MOST)
    return sorted({0, most, *(2**power for power in range(most.bit_length()))})


def _score(folder: Path, view: Dataset, context: Context) -> float:
    predict = OpenVINOPredictor(folder, context.target, context.threads)
    return map50_95(predict, view, context.imgsz)
