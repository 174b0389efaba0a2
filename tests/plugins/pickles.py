"""Pickles and archives written by hand, instruction by instruction, as no library would write them."""

from __future__ import annotations

import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

MODEL = b"cultralytics.nn.tasks\nDetectionModel\n"
SEQUENTIAL = b"ctorch.nn.modules.container\nSequential\n"
CONCAT = b"cultralytics.nn.modules.conv\nConcat\n"
_TORCH_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def table(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(what: bytes, *arguments: bytes) -> bytes:
    return what + several(*arguments) + b"R"


def thing(kind: bytes, *attributes: tuple[bytes, bytes]) -> bytes:
    return kind + b")\x81" + table(*attributes) + b"b"


def whole(value: bytes, key: str = "model") -> bytes:
    return b"\x80\x02" + table((text(key), value)) + b"."


def storage(
    count: int,
    kind: bytes = b"ctorch\nFloatStorage\n",
    key: bytes = text("0"),
    tag: str = "storage",
) -> bytes:
    return several(text(tag), kind, key, text("cpu"), number(count)) + b"Q"


def tensor(
    count: int,
    first: int = 0,
    size: Iterable[int] = (4,),
    stride: Iterable[int] = (1,),
    **kind: bytes,
) -> bytes:
    shape = several(*map(number, size)), several(*map(number, stride))
    return call(_TORCH_TENSOR, storage(count, **kind), number(first), *shape, b"\x89", b"}")


def doubled(times: int, start: bytes = b")", join: bytes = b"\x86") -> bytes:
    """A value put `times` times into a pair of itself: 2 ** times to walk, a few bytes to write."""
    return start + times * (b"q\x00h\x00" + join)


def nested(times: int, module: bytes = SEQUENTIAL) -> bytes:
    """Modules that each hold the next twice."""
    inner = thing(module)
    for _ in range(times):
        inner += b"q\x010" + thing(
            module, (text("_modules"), table((text("0"), b"h\x01"), (text("1"), b"h\x01")))
        )
    return inner


def zipped(
    path: Path,
    pickled: bytes = whole(b"N"),
    change: Callable[[zipfile.ZipFile], object] = lambda _: None,
    **entries: bytes,
) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, data in {"byteorder": b"little", "data/0": bytes(16), **entries}.items():
            file.writestr(f"archive/{name}", data)
        change(file)
    return path


def entry(name: str, data: bytes = b"x", **about: int) -> Callable[[zipfile.ZipFile], object]:
    """Write one more entry, with these attributes."""

    def add(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        for key, value in about.items():
            setattr(info, key, value)
        file.writestr(info, data)

    return add


LINK = (stat.S_IFLNK | 0o777) << 16


def patched(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes of a file where they occur."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.pair = (function, arguments)

    def __call__(self) -> None:
        """Make instances acceptable as the function of another `Calls`."""

    def __reduce__(self) -> tuple[object, ...]:
        return self.pair


def shell(canary: Path, protocol: int) -> bytes:
    """A pickle that creates the canary in an ordinary reader."""
    return pickle.dumps({"model": Calls(os.system, f"touch {canary}")}, protocol)
