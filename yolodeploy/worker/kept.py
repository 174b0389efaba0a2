"""Files that a host keeps by the digest of their bytes, so that they are sent once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_MOST_FILES = 20_000  # their digests must fit into one message
_OLD = 2 * 86400  # seconds; no worker runs for so long


class Kept:
    """The folder `kept/` below the only folder of the host that is written to."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / "kept"
        self._folder.mkdir(parents=True, exist_ok=True)

    def digests(self) -> list[str]:
        """Those of the files that are there."""
        return sorted(entry.name for entry in _files(self._folder))

    def prune(self, most: int) -> None:
        """Remove what was not used for longest, down to so many bytes, and what killed workers left behind."""
        found = [(entry.stat(), entry) for entry in _files(self._folder)]
        found.sort(key=lambda pair: pair[0].st_mtime, reverse=True)
        total = 0
        for count, (stat, entry) in enumerate(found, 1):
            total += stat.st_size
            if total > most or count > _MOST_FILES:
                _remove(entry)
        self._sweep()

    def _sweep(self) -> None:
        """Remove code that no worker started with for long, and what is older than any running worker's unfinished files."""
        before = time.time() - _OLD
        for pattern in ("kept/tmp*", "code/*", "open-*"):
            for path in self._root.glob(pattern):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        _remove(path)

    def add(self, digest: str, data: bytes) -> None:
        """Keep bytes; ValueError if they have another digest."""
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"the bytes sent for {digest[:12]} have another digest")
        file, name = tempfile.mkstemp(dir=str(self._folder))
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
            os.replace(name, str(self._folder / digest))  # noqa: PTH105 - complete or absent
        except BaseException:
            Path(name).unlink()
            raise

    def read(self, digest: str) -> bytes:
        """The bytes; KeyError if they are not there (any more) or damaged, and then they are removed."""
        file = self._folder / _plain(digest)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None
        if hashlib.sha256(data).hexdigest() != digest:
            _remove(file)
            raise KeyError(digest)
        with contextlib.suppress(OSError):
            os.utime(str(file))  # `prune` goes by it
        return data

    def folder(self, files: Mapping[str, str]) -> Path:
        """A new folder with files by relative path, given their digests; whoever asks removes it with `drop`."""
        made = Path(tempfile.mkdtemp(prefix="open-", dir=str(self._root)))
        for name, digest in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"the path {name!r} leads out of its folder")
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(digest))
        return made

    def drop(self, folder: Path) -> None:
        """Remove a folder that `folder` made."""
        shutil.rmtree(str(folder), ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    """The files that are kept."""
    return [entry for entry in folder.iterdir() if len(entry.name) == 64 and entry.is_file()]


def _remove(path: Path) -> None:
    """Remove a file or folder, if nobody else did."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def _plain(digest: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise KeyError(digest)
    return digest
