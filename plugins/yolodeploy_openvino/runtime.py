"""Running an IR in OpenVINO, and describing how an app uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Interface, Runtime, Target, Tensor
from yolodeploy.system import GREY
from yolodeploy_openvino.graph import find_structure
from yolodeploy_openvino.layers import form
from yolodeploy_openvino.toolchain import MODEL_FILE, failing, openvino, read_model, version


class OpenVINOPredictor:
    """Runs an IR with a batch size of one, image after image."""

    def __init__(self, folder: Path, target: Target, threads: int) -> None:
        ov = openvino()
        core = ov.Core()
        wanted = str(target.device.options.get("unit", "CPU"))
        unit = available_unit(wanted, core.available_devices)
        config = _config(unit, target, threads)
        remedy = "Build it again; if it fails again, try another version."
        with failing(f"open {folder / MODEL_FILE} on {unit}", remedy):
            compiled = core.compile_model(core.read_model(folder / MODEL_FILE), unit, config)
        self._request = compiled.create_infer_request()
        self._shape = tuple(compiled.output(0).shape)
        hardware = str(core.get_property(unit, "FULL_DEVICE_NAME")).strip()
        note = _note(unit, hardware, target, config)
        self.runtime = Runtime(
            "OpenVINO", version(ov), hardware, threads, note, timing=unit == wanted
        )

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run `[N, 3, H, W]` images in 0..1; returns `[N, 4 + classes, anchors]`."""
        outputs = np.empty((len(images), *self._shape[1:]), np.float32)
        for output, image in zip(outputs, images, strict=True):
            self._request.infer([np.ascontiguousarray(image[None])], share_inputs=True)
            output[:] = self._request.get_output_tensor(0).data[0]
        return outputs


def available_unit(wanted: str, present: Sequence[str]) -> str:
    """The unit to measure on: the wanted one if this machine has it, else the CPU."""
    return wanted if any(name.split(".")[0] == wanted for name in present) else "CPU"


def describe(folder: Path) -> Interface:
    """Describe the inputs, outputs and convolutions of the IR in `folder`."""
    model = read_model(folder)
    shape = tuple(model.input(0).shape)
    layout = "grey, 0..1" if shape[1] == GREY else "RGB, planes one after the other, 0..1"
    image = Tensor("images", shape, "float32", layout)
    output = Tensor(
        "output0",
        tuple(model.output(0).shape),
        "float32",
        "per anchor: centre x, centre y, width, height in input pixels, then one score per class",
    )
    return Interface(
        MODEL_FILE,
        (image,),
        (output,),
        scale=1 / 255,
        note="Keep model.bin beside model.xml. On a CPU set INFERENCE_PRECISION_HINT to f32 for "
        "the figures of the evidence.",
        layers={
            name: form(node) for name, node in find_structure(model).convolutions(model).items()
        },
    )


def _config(unit: str, target: Target, threads: int) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if unit == "CPU":
        config["INFERENCE_NUM_THREADS"] = threads
        config["INFERENCE_PRECISION_HINT"] = str(target.device.options.get("precision", "f32"))
    return config


def _note(unit: str, hardware: str, target: Target, config: dict[str, Any]) -> str:
    arithmetic = config.get("INFERENCE_PRECISION_HINT", "the unit's own precision")
    options = target.device.options
    if unit == options.get("unit", "CPU") and str(options.get("cpu", hardware)) in hardware:
        return f"computed in {arithmetic}"
    return f"computed in {arithmetic} on this machine's {unit}, not on {target.device.title}"
