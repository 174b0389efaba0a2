"""Digests of values, files and folders: sha256, as lower-case hex."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from yolodeploy.system.files import MODEL_BYTES, open_plain, require_plain
from yolodeploy.system.memo import Memo

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
    read again when it is done: see planning/inputs.py. The cache may be lost: see `Memo`.
    """

    def __init__(self, file: Path) -> None:
        self._memo = Memo(file)

    def digest(self, path: Path) -> str:
        """Digest of a file's bytes; OSError if it cannot be read, or has more than `MODEL_BYTES`."""
        name = str(path.absolute())
        stat = path.stat()
        require_plain(stat, MODEL_BYTES)  # reading it first could take hours
        state = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = self._memo.get(name)
        if isinstance(known, list) and len(known) == 5 and known[:4] == state:
            return str(known[4])
        value = file_digest(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
            self._memo.put(name, [*state, value])
        return value

    def reload(self) -> None:
        """Take over what another process has kept meanwhile."""
        self._memo.reload()

    def save(self) -> None:
        """Write the cache file, if anything is new, in one atomic step."""
        self._memo.save()
