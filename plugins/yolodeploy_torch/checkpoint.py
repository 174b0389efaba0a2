"""Reading an Ultralytics checkpoint without Ultralytics and without running what is in it.

A checkpoint is a pickle, and a pickle can call anything. PyTorch's `weights_only` reader
calls only what it is given; here that is a list of inert stand-ins for exactly the
classes a YOLOv8 detection checkpoint names. Everything else is refused unread.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from yolodeploy.errors import ModelError

_SAVE_AGAIN = "Use the .pt file that Ultralytics wrote, or save it again with `model.save()`"


class Node:
    """Stand-in for an object of a checkpoint: keeps the attributes, does nothing."""

    kind = ""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


_MODULES = {
    "torch.nn.modules.activation": ("SiLU",),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("ModuleList", "Sequential"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.linear": ("Identity",),
    "torch.nn.modules.pooling": ("MaxPool2d",),
    "torch.nn.modules.upsampling": ("Upsample",),
    "ultralytics.nn.tasks": ("DetectionModel",),
    "ultralytics.nn.modules.block": ("Bottleneck", "C2f", "DFL", "SPPF"),
    "ultralytics.nn.modules.conv": ("Concat", "Conv"),
    "ultralytics.nn.modules.head": ("Detect",),
    # Up to Ultralytics 8.0.9x all layers were in one module.
    "ultralytics.nn.modules": ("Bottleneck", "C2f", "DFL", "SPPF", "Concat", "Conv", "Detect"),
}

# What else checkpoints hold beside the model: settings, losses, paths, dates, scores.
_COMPANIONS = {
    "ultralytics.utils": ("IterableSimpleNamespace",),
    "ultralytics.yolo.utils": ("IterableSimpleNamespace",),
    "ultralytics.utils.loss": ("v8DetectionLoss", "BboxLoss", "DFLoss"),
    "ultralytics.yolo.utils.loss": ("v8DetectionLoss", "BboxLoss"),
    "ultralytics.yolo.v8.detect.train": ("Loss",),
    "ultralytics.utils.tal": ("TaskAlignedAssigner",),
    "ultralytics.yolo.utils.tal": ("TaskAlignedAssigner",),
    "torch.nn.modules.loss": ("BCEWithLogitsLoss",),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "datetime": ("date", "datetime", "timedelta", "timezone"),
    "numpy": ("dtype",),
    "numpy.core.multiarray": ("scalar",),
    "numpy._core.multiarray": ("scalar",),
}

_TASKS = {
    "SegmentationModel": "a segmentation model",
    "PoseModel": "a pose model",
    "OBBModel": "an oriented-box model",
    "ClassificationModel": "a classification model",
}

# What a reader of a damaged or hostile pickle stumbles over.
_MALFORMED = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


_Safe = list[Callable[..., Any] | tuple[Callable[..., Any], str]]


def _stand_ins() -> _Safe:
    return [
        (type(name, (Node,), {"kind": name}), f"{module}.{name}")
        for table in (_MODULES, _COMPANIONS)
        for module, names in table.items()
        for name in names
    ]


_STAND_INS = _stand_ins()
_NAMED = frozenset(pair[1] for pair in _STAND_INS if isinstance(pair, tuple))


def read_checkpoint(path: Path) -> Node:
    """Return the detection model inside an Ultralytics checkpoint, as a tree of stand-ins.

    Takes the averaged weights (`ema`) where the file has them, as Ultralytics does. Raises
    ModelError for a file that is missing, damaged, unsafe or of another kind of model.
    """
    _check_file(path)
    _check_archive(path)
    with torch.serialization.safe_globals(_STAND_INS):
        _check_globals(path)
        content = _load(path)
    return _model(path, content)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder. Name the .pt file in it.")
    if not path.exists():
        raise ModelError(f"{path} does not exist. Check the path, relative to the recipe.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}). Check its rights.") from error
    if not head:
        raise ModelError(f"{path} is empty. {_SAVE_AGAIN}.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself. Run: git lfs pull")
    if not head.startswith(b"PK\x03\x04"):
        raise ModelError(
            f"{path} is not a PyTorch checkpoint (no zip archive; it starts with "
            f"{head[:8]!r}). {_SAVE_AGAIN}."
        )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive.infolist())
            # PyTorch does not compare checksums, and a flipped bit in a weight is still a weight.
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged or cut off ({error}). Copy it again.") from error
    if bad:
        raise ModelError(f"{path} is damaged (the checksum of {bad} is wrong). Copy it again.")


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise ModelError(f"{path} is a TorchScript export, not a checkpoint. {_SAVE_AGAIN}.")
    if "data.pkl" not in names:
        raise ModelError(f"{path} is a zip archive, but no PyTorch checkpoint. {_SAVE_AGAIN}.")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path} unpacks to more than its size. {_SAVE_AGAIN}.")


def _check_globals(path: Path) -> None:
    try:
        unknown = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except _MALFORMED as error:
        unknown = _named_globals(path)
        if not unknown:
            raise ModelError(f"{path} is damaged ({error}). {_SAVE_AGAIN}.") from error
    layers = [name for name in unknown if name.startswith(("ultralytics.nn.", "torch.nn.modules."))]
    unsafe = [name for name in unknown if name not in layers]
    if unsafe:
        known = "before `fuse()`, which adds this, " if unsafe == ["builtins.getattr"] else ""
        raise ModelError(
            f"{path} asks to run {_quoted(unsafe)}, which a YOLOv8 detection checkpoint never "
            f"needs; nothing was run. If you trained it yourself, save it again {known}with "
            "Ultralytics' `model.save()`; if not, do not open it with any tool."
        )
    if layers:
        raise ModelError(f"{path} is {_other_model(layers)}")


def _named_globals(path: Path) -> list[str]:
    """Names of the globals in a pickle whose protocol PyTorch does not read."""
    found: set[str] = set()
    texts: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            for code, value, _ in pickletools.genops(archive.read(entry)):
                if code.name == "GLOBAL":
                    found.add(str(value).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(texts[-2:]))
                elif isinstance(value, str):
                    texts.append(value)
    except _MALFORMED:
        return sorted(found)
    return sorted(found - _NAMED)


def _other_model(layers: Iterable[str]) -> str:
    names = sorted({name.rpartition(".")[2] for name in layers})
    for name in names:
        if name in _TASKS:
            return (
                f"{_TASKS[name]} where a detection model is needed. "
                "This version supports YOLOv8 detection only."
            )
    return (
        f"no plain YOLOv8 detection model: it has the layers {', '.join(names)}. "
        "This version supports YOLOv8 detection only; train one, for example from yolov8n.pt."
    )


def _quoted(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _MALFORMED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise ModelError(f"{path} is damaged ({reason}). {_SAVE_AGAIN}.") from error


def _model(path: Path, content: object) -> Node:
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not an Ultralytics checkpoint. {_SAVE_AGAIN}.")
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(
            f"{path} holds bare weights (a state dict) and does not say of which model. "
            f"{_SAVE_AGAIN}."
        )
    for key in ("ema", "model"):
        model = content.get(key)
        if isinstance(model, Node) and model.kind == "DetectionModel":
            return model
    raise ModelError(f"{path} holds no Ultralytics detection model. {_SAVE_AGAIN}.")
