"""Read an Ultralytics checkpoint without Ultralytics and without running what is in it.

A checkpoint is a pickle, and a pickle can call anything. The reader in `unpickler.py` calls only our own
functions: those here make containers and tensors, those in `names.py` stand-ins. A file that names
anything else is refused, unless it is another layer: then the model in it is described.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.errors import ModelError
from yolodeploy.system import quotable
from yolodeploy_torch.checkpoint.names import Names, another_program, inert
from yolodeploy_torch.checkpoint.unpickler import (
    MAX_BYTES,
    Factory,
    Malformed,
    Name,
    Node,
    Unpickler,
    key_of,
)
from yolodeploy_torch.checkpoint.weights import Storage, Stored, item_size
from yolodeploy_torch.checkpoint.zip_archive import SAVE_AGAIN, Archive, open_archive

_STORAGES = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.ShortStorage": "int16",
}
# The types of numbers that PyTorch has, and the class of weights: named, and never called.
_TYPE = re.compile(
    r"torch\.(bool|b?complex\d+|b?float\d\w*|q?u?int\d\w*|bits\d\w*|nn\.parameter\.Parameter)"
)
_WRAPPERS = ("DataParallel", "DistributedDataParallel")
_OPENMMLAB = re.compile(r"mm\w{1,20}_version")  # what its checkpoints say of their makers
_MAX_AXES, _MAX_WRAPPERS = 8, 4
_PATH = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1024}")
_MAX_SIDE = 1 << 16  # pixels


@dataclass(frozen=True)
class Checkpoint:
    """The model in a checkpoint, as a tree of stand-ins, and the arguments that it was trained with."""

    model: Node
    arguments: Mapping[Any, Any]

    @property
    def imgsz(self) -> int | tuple[int, int] | None:
        """The size that the model was trained at; None if the file does not say it."""
        return _size_of(self.arguments.get("imgsz"))

    @property
    def data(self) -> str:
        """The data set that the training was told: a path or a name; empty if the file does not say it."""
        named = self.arguments.get("data")
        return named if isinstance(named, str) and _PATH.fullmatch(named) else ""

    @property
    def single_cls(self) -> bool:
        """Whether it was trained with all classes taken for one."""
        return self.arguments.get("single_cls") is True


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open an Ultralytics checkpoint of any model; its weights can be read until it is closed.

    Takes the averaged weights (`ema`) where the file has them, as Ultralytics does. Raises
    ModelError for a file that is missing, damaged, unsafe, or no checkpoint.
    """
    with open_archive(path) as file:
        if file.content("byteorder", 9) not in (b"", b"little"):
            raise ModelError(f"{path} was written on a big-endian machine. {SAVE_AGAIN} elsewhere.")
        yield _checkpoint(path, _content(path, file, _factory))


def read_values(path: Path, tensor: Callable[[Stored], object]) -> object:
    """Return what `torch.save` wrote, as plain values and what `tensor` makes of the tensors.

    Raises ModelError if it is unsafe.
    """

    def factory(name: str) -> Factory | None:
        if _FACTORIES.get(name) is _tensor:
            return lambda *given: tensor(_tensor(*given))
        return _factory(name)

    with open_archive(path) as file:
        return _content(path, file, factory)


def _content(path: Path, file: Archive, factory: Callable[[str], Factory | None]) -> object:
    machine = Unpickler(factory, functools.partial(_storage, file))
    try:
        content = machine.run(file.content("data.pkl", MAX_BYTES + 1))
    except Malformed as error:
        _check_names(path, machine)
        raise ModelError(f"{path} is damaged ({error}). {SAVE_AGAIN}.") from error
    _check_names(path, machine)
    return content


def _check_names(path: Path, machine: Unpickler) -> None:
    if problem := Names.of(machine.unknown, machine.called).problem():
        raise ModelError(f"{path} {problem}")


def _storage(file: Archive, given: object) -> Storage:
    """What a persistent id ("storage", class, key, device, count) stands for."""
    if not isinstance(given, tuple) or len(given) != 5 or given[0] != "storage":
        raise Malformed("its pickle refers to something outside it that is not a storage")
    _, name, key, _, count = given
    kind = _STORAGES.get(name) if isinstance(name, Name) else None
    if kind is None or type(key) is not str or type(count) is not int:
        raise Malformed("its pickle describes a storage of an unknown type")
    file.check_storage(key, count * item_size(kind))
    return Storage(kind, count, functools.partial(file.storage, key))


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Stored:
    """A view of a storage; raises Malformed if it would reach outside."""
    if not isinstance(storage, Storage):
        raise Malformed("a tensor has no storage")
    sizes, strides = _counts(size), _counts(stride)
    (first,) = _counts((offset,))
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= storage.count:
        raise Malformed(
            f"a tensor of shape {sizes} reaches outside its storage of {storage.count} numbers"
        )
    return Stored(storage, sizes, strides, first)


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


def _tuple(values: object = (), *_: object) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


def _list(values: object = (), *_: object) -> list[Any]:
    return list(_tuple(values))


def _dict(pairs: object = (), *_: object) -> dict[Any, Any]:
    return dict(pairs) if isinstance(pairs, dict) else _ordered(pairs)


def _refused(*_: object) -> object:
    raise Malformed("its pickle calls a type of numbers")


# What makes the containers and tensors that a name stands for.
_FACTORIES: Mapping[str, Factory] = {
    **dict.fromkeys(_STORAGES, _refused),
    **dict.fromkeys(("builtins.set", "builtins.frozenset"), _set),
    **dict.fromkeys(("_codecs.encode", "builtins.bytes"), _bytes),
    **dict.fromkeys(("builtins.dict", "collections.Counter"), _dict),
    **dict.fromkeys(("builtins.list", "collections.deque"), _list),
    **dict.fromkeys(("builtins.tuple", "torch.Size"), _tuple),
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda _kind=None, pairs=(), *_: _dict(pairs),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
}


def _factory(name: str) -> Factory | None:
    return _FACTORIES.get(name) or (_refused if _TYPE.fullmatch(name) else inert(name))


def _checkpoint(path: Path, content: object) -> Checkpoint:
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not an Ultralytics checkpoint. {SAVE_AGAIN}.")
    for key in ("ema", "model"):
        model = _unwrapped(content.get(key))
        if isinstance(model, Node) and model.kind.endswith("Model"):
            return Checkpoint(model, _arguments(content, model))
    raise ModelError(f"{path} {_without_model(content)}")


def _without_model(content: Mapping[Any, Any]) -> str:
    """What a checkpoint without a model of Ultralytics is, as the rest of a sentence about the file."""
    if _bare(content):
        return f"holds bare weights (a state dict) and does not say of which model. {SAVE_AGAIN}."
    key = next((key for key, value in content.items() if type(key) is str and _bare(value)), None)
    if key is None:
        return f"holds no Ultralytics detection model. {SAVE_AGAIN}."
    meta = content.get("meta")
    keys = meta if isinstance(meta, dict) else {}
    if any(type(name) is str and _OPENMMLAB.fullmatch(name) for name in keys):
        return another_program("OpenMMLab")
    return (
        f"holds bare weights (a state dict) under `{quotable(key)}`, as YOLOX, OpenMMLab, SuperGradients and others "
        "save them, and does not say of which model. Use a .pt file that Ultralytics wrote, or train a YOLOv8 "
        "detection model on the same data, for example from yolov8n.pt."
    )


def _bare(value: object) -> bool:
    """Whether a value is a table of nothing but tensors."""
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(each, Stored) for each in value.values())


def _unwrapped(model: object) -> object:
    """The model inside DataParallel or DistributedDataParallel, which only spread its batches."""
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(model, Node) or model.kind not in _WRAPPERS:
            break
        modules = model.state.get("_modules")
        model = modules.get("module") if isinstance(modules, dict) else None
    return model


def _arguments(content: Mapping[Any, Any], model: Node) -> Mapping[Any, Any]:
    """The training arguments: of the whole checkpoint, or those that the model itself keeps."""
    for found in (content.get("train_args"), model.state.get("args")):
        # A namespace has them as attributes. OmegaConf (Ultralytics 8.0.x) has a table of nodes with a value each.
        table = found.state.get("_content", found.state) if isinstance(found, Node) else found
        if isinstance(table, dict) and table:
            return {key: _plain_value(value) for key, value in table.items()}
    return {}


def _plain_value(value: object) -> object:
    return value.state.get("_val") if isinstance(value, Node) else value


def _size_of(value: object) -> int | tuple[int, int] | None:
    sides: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if not 1 <= len(sides) <= 2 or not all(type(s) is int and 0 < s <= _MAX_SIDE for s in sides):
        return None
    height, width = int(sides[0]), int(sides[-1])
    return height if height == width else (height, width)
