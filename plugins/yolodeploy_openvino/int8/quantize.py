"""The step `quantize`: an IR in floating point -> an IR that computes in 8-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from yolodeploy.backend import Artifact, Context, Params, Probe
from yolodeploy.errors import DataError, EnvironmentProblem
from yolodeploy.system import missing

if TYPE_CHECKING:
    from yolodeploy.compress import Cost
    from yolodeploy_openvino.int8.quantizer import Quantizer
    from yolodeploy_openvino.params import Quantize
    from yolodeploy_openvino.runtime import OpenVINOPredictor

TOOLS = ("nncf",)


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.xml` and `model.bin` with 8-bit weights and activations.

    An artifact with learned ranges gets exactly these: no image is read, and no bias corrected.
    Raises PlanRefused for a selector that matches nothing or contradicts training, for an IR that is
    compressed already, and for a `max_drop` that no choice of layers meets; DataError for calibration
    images that are too few, unreadable or, with `max_drop`, without labels; StepFailed if NNCF fails.
    """
    quantizer = _quantizer(artifact, params, context)
    if quantizer.params.max_drop is None or quantizer.learned:
        quantizer.write(quantizer.names, context.work)
    else:
        _write_within(quantizer.params.max_drop, quantizer, context)
    return context.work


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every layer alone in 8 bits, with the ranges and biases of the whole model quantized."""
    return _quantizer(artifact, params, context).probe()


def _quantizer(artifact: Artifact, params: Params, context: Context) -> Quantizer:
    if reason := missing("openvino", *TOOLS):
        raise EnvironmentProblem(reason)
    from yolodeploy_openvino.int8.quantizer import Quantizer

    return Quantizer(artifact, cast("Quantize", params), context)


def _write_within(max_drop: float, quantizer: Quantizer, context: Context) -> None:
    """Write the first model whose score, the primary one of its task, is at most `max_drop` below the float model's.

    Judged on the labelled calibration images: evaluation images that had decided the choice of layers
    could not measure its result. Raises DataError without labels.
    """
    from yolodeploy.compress import measure_layers, within_drop
    from yolodeploy.tasks import primary_score, required_score, task_of
    from yolodeploy_openvino.runtime import OpenVINOPredictor

    view, task = context.data["calibration"], task_of(context.model)
    if not view.labelled:
        raise DataError(
            "`max_drop` compares scores on the calibration images, and these have no labels. Name "
            "labelled images under `data: calibration:`, or remove `max_drop`."
        )

    def opened(artifact: Artifact) -> OpenVINOPredictor:
        return OpenVINOPredictor(artifact.path, context.target, context.threads)

    def score(artifact: Artifact) -> float:
        return primary_score(opened(artifact), view, context.imgsz, task, context.head)

    exact = required_score(score(quantizer.artifact), "calibration")

    def measure() -> tuple[Cost, ...]:
        probe, images = quantizer.probe(), quantizer.view
        return measure_layers(probe, quantizer.artifact, opened, images, context)

    def drop(kept: frozenset[str]) -> float:
        quantizer.write(quantizer.names - kept, context.work)
        return exact - score(Artifact(quantizer.artifact.format, context.work, ""))

    within_drop(max_drop, quantizer.names, measure, drop, f"the {len(view)} calibration images")
