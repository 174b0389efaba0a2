"""The step `quantize`: convolutions, and what lies between them, in 8-bit integers (QDQ)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from yolodeploy.backend import Artifact, Context, Params, Predictor, Probe

if TYPE_CHECKING:
    from yolodeploy.compress import Cost
    from yolodeploy_onnxruntime.int8.quantizer import Quantizer
    from yolodeploy_onnxruntime.params import Quantize

_LEAST_SHARE = 0.5  # of the multiplications; with fewer in int8 there is little speed to gain
_ADVICE = (
    "Int8 must do at least half of the multiplications. Ask for that much, try another `method`, or "
    "use `w8`, which keeps float arithmetic."
)


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.onnx` with all convolutions in 8 bits except those that must stay float.

    What costs more than everything else together stays float, too, if the parameters do not say otherwise.

    An artifact with learned ranges gets exactly these: no image is read, no bias corrected, and
    `keep_float` alone says what stays float. Raises PlanRefused for a selector that matches nothing
    or contradicts training, for an artifact that is compressed already, and for a budget that no
    choice of layers meets; DataError for calibration images that are too few or unreadable.
    """
    from yolodeploy_onnxruntime.int8.quantizer import Quantizer

    options = cast("Quantize", params)
    quantizer = Quantizer(artifact, options, context)
    chosen: Collection[str] = quantizer.names
    if quantizer.learned is None:
        chosen = _chosen(options, quantizer)
    result = context.work / "artifact"
    result.mkdir()
    quantizer.write(chosen, result)
    return result


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every convolution alone in 8 bits, with the ranges and biases of the whole model quantized."""
    from yolodeploy_onnxruntime.int8.quantizer import Quantizer

    return Quantizer(artifact, cast("Quantize", params), context).probe()


def _chosen(options: Quantize, quantizer: Quantizer) -> Collection[str]:
    """The convolutions to quantize: by the noise of the output, or all but those that cost most of it."""
    from yolodeploy.compress import Candidates, dominant, measure_layers, within_noise
    from yolodeploy_onnxruntime.runtime import OnnxPredictor

    target, artifact, context = quantizer.context.target, quantizer.artifact, quantizer.context

    def opened(made: Artifact) -> Predictor:
        return OnnxPredictor(made.path, target, 1)

    def measure(probe: Probe) -> tuple[Cost, ...]:
        return measure_layers(probe, artifact, opened, quantizer.view, context)

    if options.min_sqnr is not None:
        work = quantizer.multiplications()
        layers = Candidates(quantizer.probe(), quantizer.write, measure, work, _LEAST_SHARE)
        return within_noise(options.min_sqnr, layers, _ADVICE)
    if not options.spare_dominant:
        return quantizer.names
    spared = dominant(measure(quantizer.probe()))
    return [name for name in quantizer.names if name not in spared]
