"""Digests: of values, files and folders. All are sha256, as lower-case hex."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from yolodeploy import reading

_SETTLED_NS = 2_000_000_000  # a younger file may change again without a new time stamp


def canonical(value: object) -> bytes:
    """Encode plain data as the one JSON text that is hashed: sorted keys, no spaces, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogateescape")  # file names need not be Unicode


def digest_of(value: object) -> str:
    """Digest of plain data (dicts with string keys, lists, strings, numbers, None)."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path, most: int | None = None) -> str:
    """Digest of a file's bytes; OSError where it is no plain file, or has more than `most` bytes."""
    with reading.opened(path, most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_files(folder: Path) -> dict[str, Path]:
    """All files below a folder by their relative POSIX path, in sorted order."""
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    return dict(sorted(found.items()))


def tree_digest(folder: Path) -> str:
    """Digest of a folder: of its files' relative paths and bytes; modes and times do not count."""
    return digest_of({name: file_digest(path) for name, path in tree_files(folder).items()})


def tree_bytes(folder: Path) -> int:
    """Total size in bytes of the files below a folder."""
    return sum(path.stat().st_size for path in tree_files(folder).values())


class StatCache:
    """Digests of files, remembered with the file's identity, size and times.

    A file whose inode, size, mtime or ctime differs is read again, and one that changed
    within the last two seconds, or in the future by this clock, is not remembered. The ctime is the
    kernel's: no program can set it back. What is written through a mapping changes neither at once, so
    what a step read is read again when it is done: see unchanged.py. A cache that cannot be read or
    written, or whose first line is not the digest of the rest, only costs time.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[object]] = dict(_read_cache(file))
        self._changed = False

    def digest(self, path: Path) -> str:
        """Digest of a file's bytes; OSError if it cannot be read, or is larger than any model."""
        name = str(path.absolute())
        stat = path.stat()
        reading.require_plain(stat, reading.MODEL_BYTES)  # before hours are spent on it
        mark = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = self._known.get(name)
        if known is not None and known[:4] == mark:
            return str(known[4])
        value = file_digest(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
            self._known[name] = [*mark, value]
            self._changed = True
        return value

    def save(self) -> None:
        """Write what was learnt, by atomic replace."""
        if not self._changed:
            return
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a read-only cache folder must not stop a plan
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._known)
            temporary.write_text(f"{_text_digest(text)}\n{text}", encoding="utf-8")
            temporary.replace(self._file)
            self._changed = False


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_cache(file: Path) -> Iterator[tuple[str, list[object]]]:
    try:
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
        raw = json.loads(text) if digest == _text_digest(text) else {}
    except (OSError, ValueError, RecursionError):
        return
    for name, entry in raw.items() if isinstance(raw, dict) else ():
        if isinstance(entry, list) and len(entry) == 5:
            yield name, entry
