"""Read an Ultralytics checkpoint without Ultralytics and without running what is in it.

A checkpoint is a pickle, and a pickle can call anything. The reader in `unpickler.py` calls only our own
functions, which are given here for exactly the names in a YOLOv8 detection checkpoint. A file with any
other name in it is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolodeploy.errors import ModelError
from yolodeploy.system import quotable
from yolodeploy_torch.checkpoint.unpickler import (
    MAX_BYTES,
    Factory,
    Malformed,
    Node,
    Unpickler,
    key_of,
)
from yolodeploy_torch.checkpoint.zip_archive import SAVE_AGAIN, Archive, open_archive

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
    "torch": ("device",),
    "torch.nn.modules.loss": ("BCEWithLogitsLoss",),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "datetime": ("date", "datetime", "timedelta", "timezone"),
    "numpy": ("dtype",),
    "numpy.core.multiarray": ("scalar",),
    "numpy._core.multiarray": ("scalar",),
}

_STORAGES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.ShortStorage": torch.int16,
}
_TYPES = (*(str(dtype) for dtype in _STORAGES.values()), "torch.nn.parameter.Parameter")

_TASKS = {
    "SegmentationModel": "a segmentation model",
    "PoseModel": "a pose model",
    "OBBModel": "an oriented-box model",
    "ClassificationModel": "a classification model",
}

_MAX_AXES = 8


def read_checkpoint(path: Path) -> Node:
    """Return the detection model in an Ultralytics checkpoint, as a tree of stand-ins.

    Takes the averaged weights (`ema`) where the file has them, as Ultralytics does. Raises
    ModelError for a file that is missing, damaged, unsafe or of another kind of model.
    """
    with open_archive(path) as file:
        if file.content("byteorder", 9) not in (b"", b"little"):
            raise ModelError(f"{path} was written on a big-endian machine. {SAVE_AGAIN} elsewhere.")
        return _model(path, _content(path, file))


def read_values(path: Path) -> object:
    """Return what `torch.save` wrote, as plain values and tensors; raises ModelError if it is unsafe."""
    with open_archive(path) as file:
        return _content(path, file)


def _content(path: Path, file: Archive) -> object:
    machine = Unpickler(_FACTORIES, functools.partial(_storage, file))
    try:
        content = machine.run(file.content("data.pkl", MAX_BYTES + 1))
    except Malformed as error:
        _check_names(path, machine.unknown)
        raise ModelError(f"{path} is damaged ({error}). {SAVE_AGAIN}.") from error
    _check_names(path, machine.unknown)
    return content


def _storage(file: Archive, given: object) -> Tensor:
    """The flat tensor that a persistent id ("storage", class, key, device, count) stands for."""
    if not isinstance(given, tuple) or len(given) != 5 or given[0] != "storage":
        raise Malformed("its pickle refers to something outside it that is not a storage")
    _, kind, key, _, count = given
    if type(key) is not str or type(count) is not int or _STORAGES.get(str(kind)) is None:
        raise Malformed("its pickle describes a storage of an unknown type")
    dtype = _STORAGES[str(kind)]
    return file.storage(key, count * dtype.itemsize).view(dtype)


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Tensor:
    """A view of a storage; raises Malformed if it would reach outside."""
    if not isinstance(storage, Tensor) or storage.ndim != 1:
        raise Malformed("a tensor has no storage")
    sizes, strides = _counts(size), _counts(stride)
    (first,) = _counts((offset,))
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= storage.numel():
        raise Malformed(
            f"a tensor of shape {sizes} reaches outside its storage of {storage.numel()} numbers"
        )
    return storage.as_strided(sizes, strides, first) if 0 not in sizes else storage[:0].view(sizes)


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _MAX_AXES:
        raise Malformed("a tensor has an impossible shape")
    if not all(type(value) is int and value >= 0 for value in values):
        raise Malformed("a tensor has a negative size, stride or offset")
    return values


def _ordered(pairs: object = ()) -> dict[Any, Any]:
    items = pairs if isinstance(pairs, list | tuple) else ()
    return {key_of(key): value for key, value in items}


def _set(items: object = ()) -> set[Any]:
    return set(map(key_of, items if isinstance(items, list | tuple) else ()))


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Bytes, which protocol 2 stores as text of the same code points."""
    if encoding != "latin1":
        raise Malformed("its pickle stores bytes in an unexpected encoding")
    return text.encode("latin1")


def _node(kind: str, *_: object) -> Node:
    return Node(kind)


def _size(values: object) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


def _refused(*_: object) -> object:
    raise Malformed("its pickle calls a type of numbers")


# What makes the things that an allowed name stands for.
_FACTORIES: Mapping[str, Factory] = {
    **{
        f"{module}.{name}": functools.partial(_node, name)
        for table in (_MODULES, _COMPANIONS)
        for module, names in table.items()
        for name in names
    },
    **dict.fromkeys((*_STORAGES, *_TYPES), _refused),
    **dict.fromkeys(("builtins.set", "builtins.frozenset"), _set),
    **dict.fromkeys(("_codecs.encode", "builtins.bytes"), _bytes),
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
}


def _check_names(path: Path, unknown: Iterable[str]) -> None:
    """Raise ModelError if the pickle gave names that are not in the table."""
    names = sorted(unknown)
    layers = [name for name in names if name.startswith(("ultralytics.nn.", "torch.nn.modules."))]
    unsafe = [name for name in names if name not in layers]
    if unsafe:
        known = "before `fuse()`, which adds this, " if unsafe == ["builtins.getattr"] else ""
        raise ModelError(
            f"{path} asks to run {_quoted(unsafe)}, which a YOLOv8 detection checkpoint never "
            f"needs; nothing was run. If you trained it yourself, save it again {known}with "
            "Ultralytics' `model.save()`; if not, do not open it with any tool."
        )
    if layers:
        raise ModelError(f"{path} is {_other_model(layers)}")


def _other_model(layers: Iterable[str]) -> str:
    names = sorted({quotable(name.rpartition(".")[2]) for name in layers})
    for name in names:
        if name in _TASKS:
            return (
                f"{_TASKS[name]} where a detection model is needed. "
                "This version supports YOLOv8 detection only."
            )
    return (
        f"not a plain YOLOv8 detection model: it has the layers {', '.join(names[:9])}. "
        "This version supports YOLOv8 detection only; train one, for example from yolov8n.pt."
    )


def _quoted(names: list[str]) -> str:
    shown = ", ".join(f"`{quotable(name)}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _model(path: Path, content: object) -> Node:
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not an Ultralytics checkpoint. {SAVE_AGAIN}.")
    if content and all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(
            f"{path} holds bare weights (a state dict) and does not say of which model. "
            f"{SAVE_AGAIN}."
        )
    for key in ("ema", "model"):
        model = content.get(key)
        if isinstance(model, Node) and model.kind == "DetectionModel":
            return model
    raise ModelError(f"{path} holds no Ultralytics detection model. {SAVE_AGAIN}.")
