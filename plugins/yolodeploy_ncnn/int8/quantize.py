"""The step `quantize`: convolutions that compute in 8-bit integers, written without ncnn's C++ tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.backend import Artifact, Context, Params, Predictor, Probe
    from yolodeploy.compress import Cost
    from yolodeploy_ncnn.int8.quantizer import Quantizer
    from yolodeploy_ncnn.params import Quantize

_LEAST_SHARE = 0.5  # of the multiplications; with fewer in int8 there is little speed to gain
_IMAGES = 2  # 4 give nearly the same order of layers and take twice as long
_ADVICE = (
    "Int8 must do at least half of the multiplications. Ask for that much, try another `method`, or "
    "use `w8`, which keeps float arithmetic."
)


def run_quantize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write the artifact with all convolutions in int8 except those that must stay float.

    An artifact with learned ranges gets exactly these: no image is read, no bias corrected, and
    `keep_float` alone says what stays float. Raises PlanRefused for a selector that matches nothing
    or contradicts training, for an artifact that is compressed already, and for a budget that no
    choice of layers meets; DataError for calibration images that are too few or unreadable.
    """
    from yolodeploy_ncnn.int8.quantizer import Quantizer

    options = cast("Quantize", params)
    quantizer = Quantizer.of(artifact, options, context)
    chosen = quantizer.names
    if options.min_sqnr is not None and quantizer.learned is None:
        chosen = _within(options.min_sqnr, quantizer, artifact, context)
    result = context.work / "artifact"
    result.mkdir()
    quantizer.write(chosen, result)
    return result


def probe_quantize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every convolution that may compute in int8, alone."""
    from yolodeploy_ncnn.int8.quantizer import Quantizer

    return Quantizer.of(artifact, cast("Quantize", params), context).probe()


def _within(
    min_sqnr: float, quantizer: Quantizer, artifact: Artifact, context: Context
) -> tuple[str, ...]:
    """The layers to quantize so that the output keeps an SQNR of `min_sqnr` decibels.

    Layers with the most noise for the time that int8 saves stay float. Costs are measured with one
    thread: the last bits of ncnn's int8 layers, and with them the choice, depend on the number.
    """
    from yolodeploy.compress import Candidates, measure_layers, within_noise
    from yolodeploy_ncnn.runtime import NcnnPredictor

    def opened(made: Artifact) -> Predictor:
        return NcnnPredictor(made.path, 1)

    def measure(probe: Probe) -> tuple[Cost, ...]:
        return measure_layers(probe, artifact, opened, quantizer.view, context, _IMAGES)

    work = quantizer.multiplications()
    layers = Candidates(quantizer.probe(), quantizer.write, measure, work, _LEAST_SHARE)
    return within_noise(min_sqnr, layers, _ADVICE)
