"""The step `quantize`: an IR in floating point -> an IR that computes in 8-bit integers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.backend import Artifact, Context, Device, Probe, Trial
from yolodeploy.dataset import Dataset
from yolodeploy.digest import file_digest
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy_openvino import bias, layers
from yolodeploy_openvino.export import MODEL_FILE, forget_origin
from yolodeploy_openvino.graph import Structure, feeding, structure
from yolodeploy_openvino.learned import set_ranges
from yolodeploy_openvino.params import Quantize
from yolodeploy_openvino.toolchain import first_line, nncf, openvino
from yolodeploy_torch.ranges import Ranges, read_ranges
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BIAS_IMAGES = 8  # means over all pixels of an image settle much sooner than ranges do


def quantize(artifact: Artifact, params: Quantize, context: Context) -> Path:
    """Write `model.xml` and `model.bin` with 8-bit weights and activations.

    An artifact that comes with learned ranges gets exactly these: no image is looked at, and no bias
    corrected. Raises PlanRefused for a selector without a match or one that training contradicts, or
    an IR that is quantized already,
    DataError for calibration images that are too few, unreadable or, with `max_drop`, without
    labels, StepFailed if NNCF fails or no setting meets `max_drop`.
    """
    quantizer = Quantizer(artifact, params, context)
    if params.max_drop is None or quantizer.learned:
        quantizer.write(quantizer.kept, context.work)
    else:
        from yolodeploy_openvino.budget import write_within

        write_within(params.max_drop, quantizer, context)
    return context.work


def probe(artifact: Artifact, params: Quantize, context: Context) -> Probe:
    """Single layers in 8 bits, with the ranges and biases of the whole model quantized."""
    return Quantizer(artifact, params, context).probe()


@dataclass(frozen=True)
class Quantizer:
    """Quantizes one float artifact with some of its layers left in floating point."""

    artifact: Artifact
    params: Quantize
    context: Context

    @cached_property
    def view(self) -> Dataset:
        """The calibration images that are used."""
        return self.context.data["calibration"].to_calibrate(self.params.subset)

    @cached_property
    def learned(self) -> Ranges | None:
        """The ranges that the artifact comes with."""
        return read_ranges(self.artifact.path)

    @cached_property
    def found(self) -> Structure:
        """The parts of the float model."""
        model = self._read()
        if any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops()):
            raise PlanRefused("the model is quantized already. Remove the second `quantize`.")
        found = structure(model)
        forms = {layers.form(node) for node in layers.convolutions(model, found).values()}
        if forms - {"fp32", "fp16"}:
            raise PlanRefused(
                "weights are integers already, and would be rounded twice. Put `compress_weights` "
                "after `quantize`, or remove it."
            )
        return found

    @cached_property
    def kept(self) -> frozenset[str]:
        """Names of the layers that the recipe wants in floating point."""
        kept = choose(self.params.keep_float, self.found.parts, "keep_float")
        if self.learned:
            named = {name for name, part in self.found.parts.items() if part != "decode"}
            self.learned.require(named - kept)
        return kept

    def write(self, kept: frozenset[str], folder: Path) -> None:
        """Quantize all layers but `kept` into `folder`."""
        model = self._quantized(kept)
        forget_origin(model)
        openvino().save_model(model, folder / MODEL_FILE, compress_to_fp16=False)

    def probe(self) -> Probe:
        """Calibrate once; then every trial is the float model with one convolution exchanged."""
        quantized = layers.convolutions(self._quantized(self.kept), self.found)
        integer = {name: node for name, node in quantized.items() if layers.form(node) == "int8"}

        def write(trial: Trial, folder: Path) -> None:
            model = self._read()
            layers.exchange(
                layers.convolutions(model, self.found)[trial.layer], integer[trial.layer]
            )
            forget_origin(model)
            openvino().save_model(model, folder / MODEL_FILE, compress_to_fp16=False)

        return Probe(
            tuple(
                Trial(name, self.found.parts[name], "int8", layers.weights(node).size)
                for name, node in integer.items()
            ),
            write,
            {
                "params": self.params.model_dump(mode="json", exclude={"max_drop"}),
                "calibration": [file_digest(image) for image in self.view.images],
                "device": self.context.target.device.name,
            },
        )

    def _read(self) -> Any:
        return openvino().Core().read_model(self.artifact.path / MODEL_FILE)

    def _quantized(self, kept: frozenset[str]) -> Any:
        """The model with all layers in 8 bits but `kept`."""
        tool = nncf()
        model = self._read()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws its progress bars there
                quantized = tool.quantize(model, **self._arguments(tool, kept))
        except RuntimeError as error:
            raise StepFailed(
                f"NNCF {tool.__version__} cannot quantize this model: {first_line(error)}. "
                "Try the version that the recipe's lock file names."
            ) from error
        floats = layers.convolutions(model, self.found)
        integers = layers.convolutions(quantized, self.found)
        if self.learned:
            set_ranges(quantized, integers, self.learned)
        elif self.params.fast_bias_correction:
            images = self.view.spread(_BIAS_IMAGES).letterboxed(self.context.imgsz)
            inputs = model.get_parameters()
            bias.correct(floats, integers, inputs, images, self.context.threads)
        for name, node in integers.items():  # NNCF gives weights names of its own
            feeding(node, 1).set_friendly_name(feeding(floats[name], 1).get_friendly_name())
        return quantized

    def _arguments(self, tool: Any, kept: frozenset[str]) -> dict[str, Any]:
        device = self.context.target.device
        names = sorted(self.found.operations[name] for name in kept)
        side = self.context.imgsz
        stream: Any = _Stream(self.view, side, self.context.progress)
        if self.learned:  # NNCF places no quantizers without an image, whatever it shows
            stream = [np.full((1, 3, side, side), 0.5, np.float32)]
        return {
            "calibration_dataset": tool.Dataset(stream),
            "preset": tool.QuantizationPreset(self.params.preset),
            "target_device": tool.TargetDevice(str(device.options["unit"])),
            "subset_size": len(stream),
            "fast_bias_correction": self.params.fast_bias_correction,
            "ignored_scope": tool.IgnoredScope(names=names),
            "advanced_parameters": tool.AdvancedQuantizationParameters(
                overflow_fix=tool.OverflowFix(overflow_fix(device)),
                # ours is used, or what was trained stays
                disable_bias_correction=bool(self.params.fast_bias_correction or self.learned),
            ),
        }


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
