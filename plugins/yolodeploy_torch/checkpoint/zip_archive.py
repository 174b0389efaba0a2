"""Open the zip archive of a checkpoint; refuse it unless it is laid out as PyTorch writes it.

Two readers may find different files in an odd archive, and a small one may unpack to gigabytes. What
PyTorch writes has neither problem: one folder, every entry uncompressed, one after the other.
Formats: PKWARE's APPNOTE.TXT 6.3.9; PyTorch's caffe2/serialize/inline_container.h.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import ModelError
from yolodeploy.system import MODEL_BYTES, open_plain
from yolodeploy_torch.checkpoint.unpickler import Malformed

MAX_BYTES = MODEL_BYTES
SAVE_AGAIN = "Use the .pt file that Ultralytics wrote, or save it again with `model.save()`"
_MAX_DIRECTORY = 8 << 20  # bytes that describe the entries; those of a checkpoint take 0.1 MB
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CHUNK = 1 << 20
_HEADER_SIZE = 30  # of an entry, before its name
_UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class Archive:
    """An open checkpoint archive: its pickle, and its storages by key."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._entries = {e.filename.partition("/")[2]: e for e in file.infolist()}
        self._storages: dict[str, NDArray[np.uint8]] = {}

    def content(self, name: str, most: int) -> bytes:
        """At most the first `most` bytes of an entry; none if it is absent."""
        entry = self._entries.get(name)
        if entry is None:
            return b""
        with self._file.open(entry) as source:
            return source.read(most)

    def size(self, name: str) -> int:
        """The size of an entry in bytes; 0 if it is absent."""
        entry = self._entries.get(name)
        return entry.file_size if entry else 0

    def check_storage(self, key: str, size: int) -> None:
        """Raise Malformed if there is no storage of that many bytes."""
        name = f"data/{key}"
        if name not in self._entries or self.size(name) != size:
            raise Malformed(f"storage {key[:20]!r} has {self.size(name)} bytes, not {size}")

    def storage(self, key: str) -> NDArray[np.uint8]:
        """The bytes of a storage, the same array every time."""
        name = f"data/{key}"
        if name not in self._storages:
            self._storages[name] = np.empty(self.size(name), np.uint8)
            self._read(name, self._storages[name].data)
        return self._storages[name]

    def _read(self, name: str, into: memoryview) -> None:
        """Fill a storage chunk by chunk: read at once, it would be in memory twice."""
        with self._file.open(self._entries[name]) as source:
            for start in range(0, len(into), _CHUNK):
                chunk = into[start : start + _CHUNK]
                chunk[:] = source.read(len(chunk))


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and check its layout and every checksum; raises ModelError if something is odd."""
    with _open_file(path) as raw:
        try:
            _check_ends(path, raw)
            with zipfile.ZipFile(raw) as file:
                _check_entries(path, file.infolist())
                # Nothing else would notice a flipped bit in a weight.
                bad = file.testzip()
                if bad:
                    raise ModelError(
                        f"{path} is damaged (the checksum of {bad[:60]!r} is wrong). Copy it again."
                    )
                yield Archive(file)
        except _UNREADABLE as error:
            raise ModelError(
                f"{path} is damaged or cut off ({str(error)[:120] or type(error).__name__}). Copy it again."
            ) from error


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise ModelError(f"{path} is a folder. Name the .pt file in it.")
    if not path.exists():
        raise ModelError(f"{path} does not exist. Check the path, relative to the recipe.")
    try:
        return open_plain(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _check_ends(path: Path, file: BinaryIO) -> None:
    head, size = file.read(64), file.seek(0, os.SEEK_END)
    if not head:
        raise ModelError(f"{path} is empty. {SAVE_AGAIN}.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself. Run: git lfs pull")
    if not head.startswith(b"PK\x03\x04"):
        raise ModelError(
            f"{path} is not a PyTorch checkpoint (no zip archive; it starts with "
            f"{head[:8]!r}). {SAVE_AGAIN}."
        )
    if size > MAX_BYTES:
        raise ModelError(
            f"{path} has {size / 1e9:.1f} GB; no checkpoint of a YOLO model is larger than "
            f"{MAX_BYTES / 1e9:.1f}. {SAVE_AGAIN}."
        )
    file.seek(max(0, size - _END.size - _LOCATOR.size - _END64.size))
    described = _directory_size(file.read(), size)
    if described > _MAX_DIRECTORY:
        raise ModelError(
            f"{path} has a table of contents of {described / 1e6:.0f} MB, which no checkpoint "
            f"needs. {SAVE_AGAIN}."
        )


def _directory_size(tail: bytes, size: int) -> int:
    """Bytes of the table of contents, which the standard library reads at once.

    A reader that does not find the end record in the last bytes looks for one elsewhere. So the record has
    to be there, with nothing after it, and the table right before it.
    """
    end = size - _END.size
    mark, disk, first, _, _, described, start, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\x05\x06" or disk or first or comment:
        raise zipfile.BadZipFile("its last bytes do not end an archive")
    if tail[-_END.size - _LOCATOR.size :].startswith(b"PK\x06\x07"):
        end -= _LOCATOR.size + _END64.size
        _, _, where, _ = _LOCATOR.unpack_from(tail, len(tail) - _END.size - _LOCATOR.size)
        mark, *_, described, start = _END64.unpack_from(tail)
        if mark != b"PK\x06\x06" or where != end:
            raise zipfile.BadZipFile("its two ends do not fit together")
    if described <= _MAX_DIRECTORY and start + described != end:
        raise zipfile.BadZipFile("its table of contents is not where it says")
    return int(described)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename.partition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise ModelError(f"{path} is a TorchScript export, not a checkpoint. {SAVE_AGAIN}.")
    if "data.pkl" not in names:
        raise ModelError(f"{path} is a zip archive, but no PyTorch checkpoint. {SAVE_AGAIN}.")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path} unpacks to more than its size. {SAVE_AGAIN}.")
    odd = _odd_entry(entries)
    if odd:
        raise ModelError(f"{path} {odd}, as PyTorch never writes it. {SAVE_AGAIN}.")


def _odd_entry(entries: list[zipfile.ZipInfo]) -> str | None:
    """What PyTorch never writes but this archive has, as the middle of a sentence."""
    folder, end, seen = entries[0].filename.partition("/")[0], 0, set()
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name, what = entry.orig_filename, repr(entry.orig_filename[:60])
        steps = name.split("/")
        if steps[0] != folder or not folder or {"", ".", ".."}.intersection(steps):
            return f"holds {what} outside the folder {folder[:60]!r}"
        if name in seen or entry.header_offset < end:
            return f"holds {what} twice or inside another entry"
        if odd := _odd_form(entry):
            return f"holds {what} {odd}"
        seen.add(name)
        end = entry.header_offset + _HEADER_SIZE + len(entry.filename) + entry.file_size
    return None


def _odd_form(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "as a link"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "compressed"
    if not entry.orig_filename.isprintable() or "\\" in entry.orig_filename:
        return "under an odd name"
    return None
