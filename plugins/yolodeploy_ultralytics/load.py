"""The step `load` for checkpoints that have to be executed: exported to ONNX in a child, then read as any ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yolodeploy_onnx
from yolodeploy.backend import Artifact, Context, ModelInfo
from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape, shown
from yolodeploy_onnx.load import load as load_onnx
from yolodeploy_ultralytics.export import Exported, export
from yolodeploy_ultralytics.params import LoadUltralytics


def load(artifact: Artifact, params: LoadUltralytics, context: Context) -> Path:
    """Execute `artifact.path`, a .pt file, and write the model into the work folder."""
    context.progress(0.0, "executing the checkpoint to export it")
    with _exported(artifact.path, params, context.imgsz) as found:
        return load_onnx(replace(artifact, format=".onnx", path=found.file), params, context)


def facts(weights: Path, params: LoadUltralytics) -> ModelInfo:
    """What a checkpoint says of its model; raises ModelError if `load` would refuse the file."""
    with _exported(weights, params, None) as found:
        info = yolodeploy_onnx.facts(found.file, params)
    heads = found.heads if len(found.heads) > 1 else (info.head,)
    size = found.imgsz[0] if found.imgsz and len(set(found.imgsz)) == 1 else found.imgsz
    return replace(info, imgsz=size, heads=heads)


@contextmanager
def _exported(
    weights: Path, params: LoadUltralytics, imgsz: ImageShape | None
) -> Iterator[Exported]:
    """The checkpoint as an ONNX file, as long as the block lasts; messages about that name the checkpoint."""
    with tempfile.TemporaryDirectory(prefix="yolodeploy-ultralytics-") as name:
        found = export(weights, params, imgsz, Path(name))
        try:
            yield found
        except ModelError as error:
            said = str(error).replace(shown(found.file), f"{shown(weights)}, exported to ONNX,")
            raise ModelError(said) from error
