"""What an ONNX file is, for `yolodeploy inspect`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnx import ModelProto

from yolodeploy.backend import ONNX_FILE, Inspected, ModelInfo
from yolodeploy_onnx.examination import parse, stored_bytes
from yolodeploy_onnx.load import file_info
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.reading import Nameless, read
from yolodeploy_torch.model import part_counts, threads, total_macs

_KIND = "ONNX file"
_KNOWN = {
    "head": "its head is one that labels can train",
    "layers": "of its head only the output is known: training goes without labels",
}


def inspect_file(path: Path) -> Inspected:
    """Read a file as the loading step does; raises ModelError if that would refuse it.

    Of a file that does not name its classes only the size of the weights is told.
    """
    try:
        with threads(1):
            found = read(path, LoadOnnx(), None)
    except Nameless as error:
        stored = stored_bytes(parse(path))
        return Inspected(_KIND, ".onnx", stored=stored, notes=(str(error).rstrip("."),))
    info = replace(file_info(found, LoadOnnx()), imgsz=(found.imgsz.height, found.imgsz.width))
    told = Inspected(
        _KIND,
        ".onnx",
        info,
        parameters=info.parameters,
        imgsz=found.imgsz,
        stored=found.stored,
        weights_checked=True,
    )
    if isinstance(found.model, ModelProto):
        return replace(
            told, notes=(f"{found.obstacle} is no primitive, so it can only be passed on",)
        )
    form = max(found.stored, key=lambda each: found.stored[each], default="fp32")
    return replace(
        told,
        macs=total_macs(found.model, found.imgsz),
        parts=part_counts(found.model, found.imgsz, dict.fromkeys(found.state, form)),
        notes=(_KNOWN[info.known],),
    )


def inspect_artifact(folder: Path) -> Inspected:
    """What a model in a folder is that is passed on as it is."""
    info = ModelInfo.read(folder)
    return Inspected(
        "model as loaded, an ONNX file that is passed on",
        "yolo",
        info,
        parameters=info.parameters,
        stored=stored_bytes(parse(folder / ONNX_FILE)),
        notes=(f"{info.obstacle} is no primitive",),
    )
