"""Files that a host keeps by the digest of their bytes, so that they are sent once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath


class Kept:
    """The folder `kept/` below the only folder of the host that is written to."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / "kept"
        self._folder.mkdir(parents=True, exist_ok=True)

    def digests(self) -> list[str]:
        """Those of the files that are there."""
        return sorted(entry.name for entry in self._folder.iterdir() if len(entry.name) == 64)

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
            file.unlink()
            raise KeyError(digest)
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


def _plain(digest: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise KeyError(digest)
    return digest
