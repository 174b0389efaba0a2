"""An object of the store as one file: a plain tar that says the same for the same object.

    meta.json, then data/<file> ... in sorted order; USTAR headers, mode 0444, no owner, no time

It is read back one header at a time and with bounds, because it may come from anywhere: regular files
alone, names that stay below data/, no more bytes than meta.json says. Extended headers, links and
whatever else the format knows are refused. Format: POSIX.1-1988, "Extended tar Format".
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from yolodeploy.digest import tree_files
from yolodeploy.objects import Meta, parse_meta

BLOCK = tarfile.BLOCKSIZE
META = "meta.json"
MOST_META = 64 * 1024
MOST_FILES = 10_000
MOST_BYTES = 8 * 10**9  # a USTAR header cannot say more of one file
_CHUNK = 1 << 20


class BadArchive(Exception):
    """What is wrong with an archive, as the rest of a sentence."""


def pack(meta: Meta, data: Path, file: Path) -> None:
    """Write the archive of an object; raises ValueError if it is none that `unpack` would read."""
    text, files = replace(meta, origin="", given="").text().encode(), tree_files(data)
    if len(files) > MOST_FILES:
        raise ValueError(f"it has more than {MOST_FILES} files")
    with file.open("wb") as out:
        out.write(_header(META, len(text)) + text + _padding(len(text)))
        for name, path in files.items():
            size = path.stat().st_size
            _require_plain(f"data/{name}")
            out.write(_header(f"data/{name}", size))
            with path.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
            out.write(_padding(size))
        out.write(bytes(2 * BLOCK))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def read_head(file: BinaryIO) -> Meta:
    """The description at the start of an archive; raises BadArchive."""
    info = _next(file)
    if info is None or info.name != META or info.size > MOST_META:
        raise BadArchive("does not begin with a description")
    try:
        return parse_meta(_exactly(file, info.size))
    except ValueError:
        raise BadArchive("its description cannot be read") from None


def unpack(file: BinaryIO, folder: Path) -> Meta:
    """Write the files of an archive below an empty folder; returns its description.

    Raises BadArchive for what `pack` does not write, and OSError if the folder cannot be written. What
    was unpacked is worth nothing until its digest was compared.
    """
    meta = read_head(file)
    _exactly(file, -file.tell() % BLOCK)
    room = meta.bytes
    if not 0 <= room <= MOST_BYTES:
        raise BadArchive(f"says that it holds {room} bytes")
    for info in _entries(file):
        room -= info.size
        if room < 0:
            raise BadArchive("holds more bytes than it says")
        _write(file, info.size, _place(folder, info.name))
    if room:
        raise BadArchive("holds fewer bytes than it says")
    return meta


def _entries(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    for _ in range(MOST_FILES):
        info = _next(file)
        if info is None:
            return
        yield info
    raise BadArchive(f"holds more than {MOST_FILES} files")


def _next(file: BinaryIO) -> tarfile.TarInfo | None:
    block = _exactly(file, BLOCK)
    if not any(block):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise BadArchive("is no archive of a result") from None
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise BadArchive(f"holds something that is no file: {info.name[:80]!r}")
    return info


def _place(folder: Path, name: str) -> Path:
    try:
        _require_plain(name)
    except ValueError as reason:
        raise BadArchive(str(reason)) from None
    return folder.joinpath(*name.split("/")[1:])


def _require_plain(name: str) -> None:
    """Raise ValueError for a name that is not one below data/ on every system."""
    parts = name.split("/")
    plain = all(part not in {"", ".", ".."} and part.isprintable() for part in parts)
    if not plain or parts[0] != "data" or len(parts) < 2 or "\\" in name or ":" in name:
        raise ValueError(f"holds a file of the name {name[:80]!r}")


def _write(file: BinaryIO, size: int, place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            left = size
            while left:
                left -= out.write(_exactly(file, min(left, _CHUNK)))
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadArchive(f"holds {place.name[:80]!r} twice") from None
    _exactly(file, -size % BLOCK)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BadArchive("ends too early")
    return data
