"""An object of the store as one file: a plain tar, the same bytes for the same object.

    meta.json, then data/<file> ... in sorted order; USTAR headers, mode 0444, no owner, no time

It may come from anywhere, so it is read one header at a time and with bounds: regular files only, names
that stay below data/, no more bytes than meta.json says. Extended headers, links and everything
else that the format knows are refused. Format: POSIX.1-1988, "Extended tar Format".
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from yolodeploy.store.objects import Meta, parse_meta
from yolodeploy.system import tree_files

BLOCK = tarfile.BLOCKSIZE
META = "meta.json"
MAX_META_BYTES = 64 * 1024
MAX_FILES = 10_000
MAX_BYTES = 8 * 10**9  # the largest file that a USTAR header can describe, rounded down
_CHUNK = 1 << 20


class BadArchive(Exception):
    """What is wrong with an archive, as the rest of a sentence."""


def pack(meta: Meta, data: Path, file: Path) -> None:
    """Write the archive of an object; raises ValueError if `unpack` would refuse it."""
    text, files = replace(meta, origin="", given="").text().encode(), tree_files(data)
    if len(files) > MAX_FILES:
        raise ValueError(f"it has more than {MAX_FILES} files")
    with file.open("wb") as out:
        out.write(_header(META, len(text)) + text + _padding(len(text)))
        for name, path in files.items():
            size = path.stat().st_size
            _require_safe_name(f"data/{name}")
            out.write(_header(f"data/{name}", size))
            with path.open("rb") as source:
                shutil.copyfileobj(source, out, _CHUNK)
            out.write(_padding(size))
        out.write(bytes(2 * BLOCK))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def read_head(file: BinaryIO) -> Meta:
    """Read the description at the start of an archive; raises BadArchive."""
    info = _next_header(file)
    if info is None or info.name != META or info.size > MAX_META_BYTES:
        raise BadArchive("does not begin with a description")
    try:
        return parse_meta(_read_exactly(file, info.size))
    except ValueError:
        raise BadArchive("has a description that cannot be read") from None


def unpack(file: BinaryIO, folder: Path) -> Meta:
    """Write the files of an archive below an empty folder; returns its description.

    Raises BadArchive for anything that `pack` does not write, and OSError if the folder cannot be
    written. Compare the digest before using what was unpacked.
    """
    meta = read_head(file)
    _read_exactly(file, -file.tell() % BLOCK)
    left = meta.bytes
    if not 0 <= left <= MAX_BYTES:
        raise BadArchive(f"claims to hold {left} bytes; at most {MAX_BYTES} are allowed")
    for info in _headers(file):
        left -= info.size
        if left < 0:
            raise BadArchive("holds more bytes than its description says")
        _extract(file, info, folder)
    if left:
        raise BadArchive("holds fewer bytes than its description says")
    return meta


def _headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    for _ in range(MAX_FILES):
        info = _next_header(file)
        if info is None:
            return
        yield info
    raise BadArchive(f"holds more than {MAX_FILES} files")


def _next_header(file: BinaryIO) -> tarfile.TarInfo | None:
    block = _read_exactly(file, BLOCK)
    if not any(block):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise BadArchive("is not the archive of a result") from None
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise BadArchive(f"holds something that is not a file: {info.name[:80]!r}")
    return info


def _require_safe_name(name: str) -> None:
    """Raise ValueError for a name that does not stay below data/ on every system."""
    parts = name.split("/")
    plain = all(part not in {"", ".", ".."} and part.isprintable() for part in parts)
    if not plain or parts[0] != "data" or len(parts) < 2 or "\\" in name or ":" in name:
        raise ValueError(f"holds a file with a name that is not allowed: {name[:80]!r}")


def _extract(file: BinaryIO, info: tarfile.TarInfo, folder: Path) -> None:
    try:
        _require_safe_name(info.name)
        path = folder.joinpath(*info.name.split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            _write(file, info.size, out)
    except ValueError as error:
        raise BadArchive(str(error)) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadArchive(f"holds {info.name[:80]!r} twice") from None
    _read_exactly(file, -info.size % BLOCK)


def _write(file: BinaryIO, size: int, out: BinaryIO) -> None:
    while size:
        size -= out.write(_read_exactly(file, min(size, _CHUNK)))


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BadArchive("ends too early")
    return data
