"""Running an IR in OpenVINO, and describing what it is and how an app uses it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import (
    OUTPUT,
    PROTOTYPES,
    Inspected,
    Interface,
    Layout,
    Outputs,
    Remote,
    Runtime,
    Server,
    Target,
    Tensor,
)
from yolodeploy.compress import KERNELS_ONLY, Part, count_parts, read_layers, told_outputs
from yolodeploy.system import GREY, ImageShape
from yolodeploy_openvino.graph import OUTPUTS, find_structure, gives_rows
from yolodeploy_openvino.layers import form
from yolodeploy_openvino.toolchain import MODEL_FILE, failing, openvino, read_model, version

_FORMS = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}


class OpenVINOPredictor:
    """Runs an IR, as many images at a time as it was exported for."""

    def __init__(self, folder: Path, target: Target, threads: int) -> None:
        from yolodeploy_openvino.worker import Net

        self._net: Net = _opened(Net, folder, target, threads)
        self.batch, on = self._net.batch, self._net.on
        self.layout: Layout = _layout(on.model, read_layers(folder).values())
        note, timing = _note(on.unit, on.hardware, target), on.unit == _wanted(target)
        found = version(openvino())
        self.runtime = Runtime("OpenVINO", found, on.hardware, threads, note, timing)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run `[N, channels, H, W]` images in 0..1; returns what `layout` says: see `backend.Predictor`."""
        return _named(self._net(images))


def serve(folder: Path, target: Target, threads: int) -> Server:
    """Open the IR for throughput on the unit for the target."""
    from yolodeploy_openvino import worker

    opened: Server = _opened(worker.Server, folder, target, threads)
    return opened


def _opened(kind: Any, folder: Path, target: Target, threads: int) -> Any:
    """The IR, opened as the worker does it on a host, on the unit for the target."""
    unit = available_unit(_wanted(target), openvino().Core().available_devices)
    remedy = "Build it again; if it fails again, try another version."
    with failing(f"open {folder / MODEL_FILE} on {unit}", remedy):
        return kind(folder / MODEL_FILE, unit, _precision(target), threads)


def remote(folder: Path, target: Target) -> Remote:
    """How a host runs the IR: on the unit of the target, and on no other."""
    model = read_model(folder)
    names = (OUTPUT, PROTOTYPES)[: len(model.outputs)]
    return Remote(
        outputs=names,
        finish=lambda found: _named(list(found.values())),
        options={
            "file": MODEL_FILE,
            "unit": _wanted(target),
            "precision": _precision(target),
            "outputs": list(names),
        },
        layout=_layout(model, read_layers(folder).values()),
        shapes=lambda: [tuple(port.shape)[1:] for port in model.outputs],
    )


def _named(found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | Outputs:
    """The output, or several by name."""
    named = dict(zip((OUTPUT, PROTOTYPES)[: len(found)], found, strict=True))
    return named if len(named) > 1 else found[0]


def _wanted(target: Target) -> str:
    return str(target.device.options.get("unit", "CPU"))


def _precision(target: Target) -> str:
    return str(target.device.options.get("precision", "f32"))


def available_unit(wanted: str, present: Sequence[str]) -> str:
    """The unit to measure on: the wanted one if this machine has it, else the CPU."""
    from yolodeploy_openvino.worker import has_unit

    return wanted if has_unit(wanted, present) else "CPU"


def describe(folder: Path) -> Interface:
    """Describe the inputs, outputs and convolutions of the IR in `folder`."""
    model = read_model(folder)
    shape = tuple(model.input(0).shape)
    layout = "grey, 0..1" if shape[1] == GREY else "RGB, planes one after the other, 0..1"
    image = Tensor("images", shape, "float32", layout)
    structure = find_structure(model, folder)
    parts, shapes = structure.parts.values(), [tuple(port.shape) for port in model.outputs]
    return Interface(
        MODEL_FILE,
        (image,),
        told_outputs(OUTPUTS, shapes, parts, _layout(model, parts)),
        scale=1 / 255,
        note="Keep model.bin beside model.xml. On a CPU set INFERENCE_PRECISION_HINT to f32 for "
        f"the figures of the evidence.{_of_a_batch(shape[0])}",
        layers={name: form(node) for name, node in structure.convolutions(model).items()},
    )


def _layout(model: Any, parts: Collection[Part]) -> Layout:
    return "rows" if gives_rows(model, parts) else "anchors"


def _of_a_batch(batch: int) -> str:
    if batch == 1:
        return ""
    return (
        f" The model takes {batch} images at a time: fill up a smaller batch with any image and ignore its row "
        "of the output. The golden input and output are one image's, at any place of a batch."
    )


def _note(unit: str, hardware: str, target: Target) -> str:
    arithmetic = _precision(target) if unit == "CPU" else "the unit's own precision"
    options = target.device.options
    if unit == options.get("unit", "CPU") and str(options.get("cpu", hardware)) in hardware:
        return f"computed in {arithmetic}"
    return f"computed in {arithmetic} on this machine's {unit}, not on {target.device.title}"


def inspect(path: Path) -> Inspected | None:
    """What the IR in a folder is, or the one that a file belongs to; None if there is none."""
    folder = path if path.is_dir() else path.parent
    if not (folder / MODEL_FILE).is_file() or path.suffix not in ("", ".xml", ".bin"):
        return None
    model = read_model(folder)
    structure = find_structure(model, folder)
    layers = structure.convolutions(model)
    stored = Counter[str]()
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            kind = node.get_element_type().get_type_name()
            if kind in _FORMS:  # others are shapes and indices
                stored[_FORMS[kind]] += node.get_byte_size()
    macs = {name: _macs(node) for name, node in layers.items()}
    batch, channels, height, width = (int(side) for side in model.input(0).shape)
    return Inspected(
        "OpenVINO IR",
        "openvino",
        imgsz=ImageShape(height, width, channels),
        parameters=sum(_weights(node) for node in layers.values()),
        macs=sum(macs.values()) // batch,
        parts=count_parts(
            structure.parts,
            {name: form(node) for name, node in layers.items()},
            {name: _weights(node) for name, node in layers.items()},
            {name: count // batch for name, count in macs.items()},
        ),
        stored=stored,
        notes=(KERNELS_ONLY,),
    )


def _weights(layer: Any) -> int:
    return math.prod(layer.get_input_shape(1))


def _macs(layer: Any) -> int:
    """Multiply-accumulates of a convolution, also a transposed one, or of a product with a matrix of weights."""
    shape = list(layer.get_input_shape(1))
    made = math.prod(layer.get_output_shape(0))
    match layer.get_type_name():
        case "Convolution":
            return int(made * math.prod(shape[1:]))
        case "ConvolutionBackpropData":
            return int(math.prod(layer.get_input_shape(0)) * math.prod(shape[1:]))
        case "GroupConvolution":
            return int(made * math.prod(shape[2:]))
        case _:
            return int(made * layer.get_input_shape(0)[-1])
