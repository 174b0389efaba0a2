"""The step `quantize`: an IR in floating point -> an IR that computes in 8-bit integers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Artifact, Context, Device
from yolodeploy.dataset import Dataset
from yolodeploy.errors import DataError, PlanRefused, StepFailed
from yolodeploy_openvino.export import MODEL_FILE, forget_origin
from yolodeploy_openvino.graph import structure
from yolodeploy_openvino.params import Quantize
from yolodeploy_openvino.toolchain import first_line, nncf, openvino
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def quantize(artifact: Artifact, params: Quantize, context: Context) -> Path:
    """Write `model.xml` and `model.bin` with 8-bit weights and activations.

    Raises PlanRefused for a selector without a match or an IR that is quantized already,
    DataError for calibration images that are too few or unreadable, StepFailed otherwise.
    """
    view = subset(context.data["calibration"], params.subset)
    context.progress(0.0, "reading")
    ov, tool = openvino(), nncf()
    try:
        model = ov.Core().read_model(artifact.path / MODEL_FILE)
        _refuse_quantized(model)
        found = structure(model)
        kept = choose(params.keep_float, found.parts, "keep_float")
        with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws its own progress bars there
            quantized = tool.quantize(
                model,
                tool.Dataset(_Stream(view, context.imgsz, context.progress)),
                preset=tool.QuantizationPreset(params.preset),
                target_device=tool.TargetDevice(str(context.target.device.options["unit"])),
                subset_size=len(view),
                fast_bias_correction=params.fast_bias_correction,
                ignored_scope=tool.IgnoredScope(
                    names=sorted(found.operations[name] for name in kept)
                ),
                advanced_parameters=tool.AdvancedQuantizationParameters(
                    overflow_fix=tool.OverflowFix(overflow_fix(context.target.device))
                ),
            )
        forget_origin(quantized)
        ov.save_model(quantized, context.work / MODEL_FILE, compress_to_fp16=False)
    except RuntimeError as error:
        raise StepFailed(
            f"NNCF {tool.__version__} cannot quantize this model: {first_line(error)}. "
            "Try the version that the recipe's lock file names."
        ) from error
    return context.work


def subset(view: Dataset, count: int | None) -> Dataset:
    """Take `count` images (None: all), spread evenly; raises DataError if there are too few."""
    total = len(view)
    if total < 2:
        raise DataError(
            f"{total} calibration image says nothing about the range of activations. Name more "
            "under `data: calibration:`; 32 to 128 are usual."
        )
    if count is None:
        return view
    if count > total:
        raise DataError(
            f"`subset: {count}` asks for more than the {total} calibration images. Ask for fewer, "
            "leave it out to take all, or name more under `data: calibration:`."
        )
    chosen = tuple(view.images[index * total // count] for index in range(count))
    return replace(view, images=chosen)


def overflow_fix(device: Device) -> str:
    """Return NNCF's name for the remedy against overflow that the device's CPU needs.

    Without VNNI, products of 8 bits are added up in 16 bits and saturate unless the weights keep
    to half of their range (OpenVINO, "Basic Quantization Flow"; NNCF, `OverflowFix`).
    """
    return "disable" if device.features & {"vnni", "amx"} else "enable"


class _Stream:
    """The calibration images one at a time; says how far it is."""

    def __init__(self, view: Dataset, imgsz: int, progress: Callable[[float, str], None]) -> None:
        self._view = view
        self._imgsz = imgsz
        self._progress = progress

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for number, image in enumerate(self._view.letterboxed(self._imgsz)):
            self._progress(0.95 * number / len(self), f"{number}/{len(self)} calibration images")
            yield image


def _refuse_quantized(model: Any) -> None:
    if any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops()):
        raise PlanRefused("the model is quantized already. Remove the second `quantize`.")
