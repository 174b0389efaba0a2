"""A place that is a folder of this machine's file system, mounted from elsewhere perhaps.

Others may write there, so nothing that lies there is followed or waited for: links, pipes and devices are
no files.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from yolodeploy.place import HEAD, NoFile

_CHUNK = 1 << 20
_ABANDONED = 86400.0  # seconds after which what was being written there is nobody's any more
_PART = re.compile(
    r"[0-9a-f]{64}\.tar\.[0-9a-f]{32}"
)  # of ours; the folder may be anything else too


class Mounted:
    """The folder; it must exist, for an empty mount point looks like one that was never used."""

    writable = True

    def __init__(self, path: str) -> None:
        self.root = Path(unquote(path))

    def get(self, key: str, file: Path, most: int) -> None:
        """As `Place` has it."""
        with _opened(self.root / key) as source, file.open("xb") as target:
            size = os.fstat(source.fileno()).st_size
            if size > most:
                raise NoFile(f"has {size} bytes, which is more than {most}")
            _copy(source, target)

    def head(self, key: str) -> bytes:
        """As `Place` has it."""
        with _opened(self.root / key) as source:
            return source.read(HEAD)

    def put(self, file: Path, key: str) -> None:
        """As `Place` has it."""
        os.stat(self.root)  # noqa: PTH116 - what is not there is not made
        home, work = self.root / key, self.root / "tmp"
        if os.path.lexists(home):
            raise FileExistsError(str(home))
        home.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        _clear(work)
        part = work / f"{home.name}.{uuid.uuid4().hex}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with file.open("rb") as source, os.fdopen(os.open(part, flags, 0o444), "wb") as target:
                _copy(source, target)
                target.flush()
                os.fsync(target.fileno())
            _appear(part, home)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        raise NoFile("is a folder, a link or a device, not a file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # if it was exchanged
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)


def _clear(work: Path) -> None:
    """Remove what killed processes left there long ago."""
    for left in work.iterdir():
        if not _PART.fullmatch(left.name):
            continue
        with contextlib.suppress(OSError):
            if left.lstat().st_mtime < time.time() - _ABANDONED:
                left.unlink()


def _appear(part: Path, home: Path) -> None:
    """A link fails where somebody was quicker, a rename would win silently."""
    try:
        home.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(home):
            raise FileExistsError(str(home)) from None
        part.replace(home)
