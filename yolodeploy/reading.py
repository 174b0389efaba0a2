"""Reading files that a stranger may have made: plain files of a bounded size, and nothing else.

A pipe never ends, a device does as it likes, and a file of gigabytes may take no room on a disk.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MODEL_BYTES = 2 << 30  # the largest YOLOv8 with its optimizer takes 0.55 GB
IMAGE_BYTES = 256 << 20
BUNDLE_BYTES = 8 << 30  # of one file of a bundle


def opened(path: Path, most: int | None = None) -> BufferedReader:
    """Open a file to read its bytes; OSError also where it is no plain file, or has more than `most`."""
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - Path's has no opener
    try:
        require_plain(os.fstat(file.fileno()), most)
    except OSError:
        file.close()
        raise
    return file


def read(path: Path, most: int) -> bytes:
    """The bytes of a file; OSError as of `opened`."""
    with opened(path, most) as file:
        size = os.fstat(
            file.fileno()
        ).st_size  # a buffer for `most` would be made, and may be filled
        raw = file.read(size + 1)
    if len(raw) > size:
        raise OSError(errno.EAGAIN, "it grew while it was read")
    return raw


def require_plain(found: os.stat_result, most: int | None) -> None:
    """Raise OSError for what is no plain file, or has more than `most` bytes."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    if most is not None and found.st_size > most:
        raise _too_large(most)


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB, the most that is read")


def _at_once(path: str, flags: int) -> int:
    """Opening a pipe would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
