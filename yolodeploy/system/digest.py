"""Digests of values, files and folders: sha256, as lower-case hex."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from yolodeploy.system.files import MODEL_BYTES, open_plain, replace_file, require_plain

_SETTLED_NS = 2_000_000_000  # a file changed since may change again without a new timestamp


def canonical(value: object) -> bytes:
    """Encode plain data as the one JSON text that is hashed: sorted keys, no spaces, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogateescape")  # file names need not be Unicode


def digest_of(value: object) -> str:
    """Digest of plain data (dicts with string keys, lists, strings, numbers, None)."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path, max_bytes: int | None = None) -> str:
    """Digest of a file's bytes; OSError if it is not a plain file, or has more than `max_bytes`."""
    with open_plain(path, max_bytes) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_files(folder: Path) -> dict[str, Path]:
    """Find all files below a folder; by relative POSIX path, sorted."""
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    return dict(sorted(found.items()))


def tree_digest(folder: Path) -> str:
    """Digest of a folder: of its files' relative paths and bytes, not their modes and times."""
    return digest_of({name: file_digest(path) for name, path in tree_files(folder).items()})


def tree_bytes(folder: Path) -> int:
    """Total size in bytes of the files below a folder."""
    return sum(path.stat().st_size for path in tree_files(folder).values())


class StatCache:
    """Remembers digests of files, with each file's inode, size and times.

    A file whose inode, size, mtime or ctime differs is read again, and one that changed within the last two
    seconds, or in the future by this clock, is not remembered. The kernel sets the ctime, so no program
    can set it back. Writing through a memory mapping changes neither at once, so a step's inputs are
    read again when it is done: see plan/inputs.py. A cache that cannot be read or written, or whose first
    line is not the digest of the rest, only costs time.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[object]] = _read_cache(file)
        self._changed = False

    def digest(self, path: Path) -> str:
        """Digest of a file's bytes; OSError if it cannot be read, or has more than `MODEL_BYTES`."""
        name = str(path.absolute())
        stat = path.stat()
        require_plain(stat, MODEL_BYTES)  # reading it first could take hours
        state = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = self._known.get(name)
        if known is not None and known[:4] == state:
            return str(known[4])
        value = file_digest(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
            self._known[name] = [*state, value]
            self._changed = True
        return value

    def save(self) -> None:
        """Write the cache file, if anything is new, in one atomic step."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):  # a read-only cache folder must not stop a plan
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._known)
            replace_file(self._file, f"{_text_digest(text)}\n{text}".encode())
            self._changed = False


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_cache(file: Path) -> dict[str, list[object]]:
    try:
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
        raw = json.loads(text) if digest == _text_digest(text) else {}
        found = raw.items()
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: row for name, row in found if isinstance(row, list) and len(row) == 5}
