"""Store files in a folder of this machine's file system, perhaps mounted from elsewhere.

Others may write there, so links, pipes and devices are refused, never followed or waited for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from yolodeploy.store.remote.storage import HEAD_BYTES, UnusableFile

_CHUNK = 1 << 20
_ABANDONED = 86400.0  # seconds after which an unfinished file has no living writer any more
_PART = re.compile(r"[0-9a-f]{64}\.tar\.[0-9a-f]{32}")  # the folder may hold anything else too


class Folder:
    """The folder. It must exist: an empty mount point looks like a folder that was never used."""

    writable = True

    def __init__(self, path: str) -> None:
        self.root = Path(unquote(path))

    def get(self, key: str, file: Path, max_bytes: int) -> None:
        """As in `Storage`."""
        with _opened(self.root / key) as source, file.open("xb") as target:
            size = os.fstat(source.fileno()).st_size
            if size > max_bytes:
                raise UnusableFile(f"has {size} bytes, which is more than {max_bytes}")
            shutil.copyfileobj(source, target, _CHUNK)

    def head(self, key: str) -> bytes:
        """As in `Storage`."""
        with _opened(self.root / key) as source:
            return source.read(HEAD_BYTES)

    def put(self, file: Path, key: str) -> None:
        """As in `Storage`: the file is written beside, synced, and linked into place."""
        os.stat(self.root)  # noqa: PTH116 - raises where nothing is mounted
        home, work = self.root / key, self.root / "tmp"
        if os.path.lexists(home):
            raise FileExistsError(str(home))
        home.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        _remove_abandoned(work)
        part = work / f"{home.name}.{uuid.uuid4().hex}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with file.open("rb") as source, os.fdopen(os.open(part, flags, 0o444), "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
                target.flush()
                os.fsync(target.fileno())
            _publish(part, home)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise UnusableFile("is a folder, a link or a device, not a file")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # it may have been replaced since
    with os.fdopen(os.open(path, flags), "rb") as file:
        yield file


def _remove_abandoned(work: Path) -> None:
    """Remove what killed processes left unfinished long ago."""
    for left in work.iterdir():
        with contextlib.suppress(OSError):
            if _PART.fullmatch(left.name) and left.lstat().st_mtime < time.time() - _ABANDONED:
                left.unlink()


def _publish(part: Path, home: Path) -> None:
    """Move a finished file into place; linking fails if another was faster, renaming would replace it."""
    try:
        home.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(home):
            raise FileExistsError(str(home)) from None
        part.replace(home)
