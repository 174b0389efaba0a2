"""Running an artifact in ONNX Runtime, and describing how an app uses it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from yolodeploy.backend import (
    INFO_FILE,
    OUTPUT,
    PROTOTYPES,
    Device,
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
from yolodeploy.compress import (
    KERNELS_ONLY,
    LAYERS_FILE,
    Part,
    count_parts,
    read_layers,
    told_outputs,
)
from yolodeploy.system import GREY, ImageShape, cpu_name
from yolodeploy_onnxruntime import worker
from yolodeploy_onnxruntime.model_file import (
    IMAGES,
    MODEL_FILE,
    OUTPUTS,
    read_model,
    shape_of,
)
from yolodeploy_onnxruntime.structure import find_structure, gives_rows
from yolodeploy_onnxruntime.toolchain import failing

_NOTE = (
    "Any execution provider runs the file. The CPU's was used for the evidence; on Android ask for XNNPACK (or NNAPI), "
    "on a GPU under Windows for DirectML, in ONNX Runtime Web for `wasm` (or `webgpu` for a float file), and leave "
    "the CPU's as the last. Keep graph optimizations on: they make 8-bit operators of the pairs of QuantizeLinear and "
    "DequantizeLinear, and unpack stored weights."
)


_FORMS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.INT32: "int32",
}


class OnnxPredictor:
    """Runs an artifact, as many images at a time as it was exported for."""

    def __init__(self, folder: Path, target: Target, threads: int) -> None:
        model = read_model(folder)
        self._net: worker.Net = _opened(worker.Net, folder, target, threads)
        self.batch = self._net.batch
        self.layout: Layout = _layout(model, read_layers(folder).values())
        note = _note(self._net.provider, target.device)
        version = onnxruntime.__version__
        self.runtime = Runtime("ONNX Runtime", version, cpu_name(), threads, note, _native(target))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run `[N, channels, H, W]` images in 0..1; returns what `layout` says: see `backend.Predictor`."""
        return _named(self._net(images))


def serve(folder: Path, target: Target, threads: int) -> Server:
    """Open an artifact for throughput: a request on every thread."""
    read_model(folder)
    opened: Server = _opened(worker.Server, folder, target, threads)
    return opened


def _opened(kind: Any, folder: Path, target: Target, threads: int) -> Any:
    """The artifact, opened as the worker does it on a host."""
    with failing(f"open {folder / MODEL_FILE}"):
        return kind(folder / MODEL_FILE, IMAGES, threads, _wanted(target))


def remote(folder: Path, target: Target) -> Remote:
    """How a host runs the artifact: with the best of the device's execution providers that it has."""
    model = read_model(folder)
    names = (OUTPUT, PROTOTYPES)[: len(model.graph.output)]
    return Remote(
        outputs=names,
        finish=lambda found: _named(list(found.values())),
        options={
            "file": MODEL_FILE,
            "image": IMAGES,
            "providers": _wanted(target),
            "outputs": list(names),
        },
        layout=_layout(model, read_layers(folder).values()),
        timing=_native(target),
        shapes=lambda: [shape_of(each)[1:] for each in model.graph.output],
    )


def _named(found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | Outputs:
    """The output, or several by name; another output must not get lost."""
    named = dict(zip((OUTPUT, PROTOTYPES)[: len(found)], found, strict=True))
    return named if len(named) > 1 else found[0]


def _native(target: Target) -> bool:
    """Whether native kernels say something of the device's speed, as they do not of those in WebAssembly."""
    return target.device.os != "web"


def _note(provider: str, device: Device) -> str:
    system = {"linux": "Linux", "Windows": "Windows"}.get(device.os)
    kind = "x86_64" if "avx2" in device.features else "aarch64"
    if platform.system() == system and platform.machine().replace("AMD64", "x86_64") == kind:
        return f"computed by {provider}"
    return f"computed by {provider} on this machine, not on {device.name}: {device.title}"


def _wanted(target: Target) -> list[str]:
    """The execution providers of a device, in ONNX Runtime's names."""
    named = str(target.device.options.get("providers", "CPU")).split(", ")
    return [f"{name}ExecutionProvider" for name in named]


def describe(folder: Path) -> Interface:
    """Describe the input, the output and the layers of the artifact in `folder`."""
    model = read_model(folder)
    shape = shape_of(model.graph.input[0])
    layout = "grey, 0..1" if shape[1] == GREY else "RGB, planes one after the other, 0..1"
    structure = find_structure(model, folder)
    parts, shapes = structure.parts.values(), [shape_of(each) for each in model.graph.output]
    return Interface(
        MODEL_FILE,
        (Tensor(IMAGES, shape, "float32", layout),),
        told_outputs(OUTPUTS, shapes, parts, _layout(model, parts)),
        scale=1 / 255,
        note=f"{_NOTE}{_of_a_batch(shape[0])}",
        layers=structure.forms,
    )


def _layout(model: onnx.ModelProto, parts: Collection[Part]) -> Layout:
    return "rows" if gives_rows(model, parts) else "anchors"


def inspect(path: Path) -> Inspected | None:
    """What the file in a folder is, or a file that has a folder with `layers.json`; None if it is something else.

    Operations are not counted: the runtime's own operators have no shapes that a file states.
    """
    folder = path if path.is_dir() else path.parent
    known = (folder / MODEL_FILE).is_file() and (folder / LAYERS_FILE).is_file()
    if not known or (folder / INFO_FILE).is_file() or (path != folder and path.name != MODEL_FILE):
        return None
    model = read_model(folder)
    structure, stored = find_structure(model, folder), Counter[str]()
    for each in model.graph.initializer:
        if each.data_type in _FORMS:
            stored[_FORMS[each.data_type]] += len(each.raw_data)
    sizes = {name: structure.weights(name).size for name in structure.layers}
    _, channels, height, width = shape_of(model.graph.input[0])
    return Inspected(
        "ONNX file for ONNX Runtime",
        "onnxruntime",
        imgsz=ImageShape(height, width, channels),
        parameters=sum(sizes.values()),
        parts=count_parts(structure.parts, structure.forms, sizes),
        stored=stored,
        notes=(KERNELS_ONLY,),
    )


def _of_a_batch(batch: int) -> str:
    if batch == 1:
        return ""
    return (
        f" The model takes {batch} images at a time: fill up a smaller batch with any image and ignore its row "
        "of the output. The golden input and output are one image's, at any place of a batch."
    )
