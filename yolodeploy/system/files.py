"""Read files of unknown origin within bounds; replace files and folders in one step.

Only plain files of a bounded size are read: a pipe never ends, a device may do anything, and a sparse file
of gigabytes may take no room on a disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from io import BufferedReader
from pathlib import Path

MODEL_BYTES = 2 << 30  # the largest YOLOv8 with its optimizer takes 0.55 GB
IMAGE_BYTES = 256 << 20
BUNDLE_BYTES = 8 << 30  # of one file of a bundle

_AT_FDCWD = -100
_EXCHANGE = 2  # Linux: RENAME_EXCHANGE (renameat2); macOS: RENAME_SWAP (renamex_np)
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def is_file(path: Path) -> bool:
    """Whether a path leads to a file; False as well for one that is too long, or in a folder that may not be entered."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's raises OSError there


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; False as `is_file` is."""
    return os.path.isdir(path)  # noqa: PTH112 - likewise


def open_plain(path: Path, max_bytes: int | None = None) -> BufferedReader:
    """Open a file to read its bytes; OSError also if it is not a plain file, or has more than `max_bytes`."""
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - Path's has no opener
    try:
        require_plain(os.fstat(file.fileno()), max_bytes)
    except OSError:
        file.close()
        raise
    return file


def read_plain(path: Path, max_bytes: int) -> bytes:
    """Read the bytes of a file; OSError as for `open_plain`."""
    with open_plain(path, max_bytes) as file:
        size = os.fstat(file.fileno()).st_size  # read(max_bytes) would allocate all of that
        raw = file.read(size + 1)
    if len(raw) > size:
        raise OSError(errno.EAGAIN, "it grew while it was read")
    return raw


def require_plain(found: os.stat_result, max_bytes: int | None) -> None:
    """Raise OSError for anything but a plain file of at most `max_bytes`."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    if max_bytes is not None and found.st_size > max_bytes:
        raise OSError(
            errno.EFBIG, f"it is larger than {max_bytes >> 20} MiB, the most that is read"
        )


def _open_without_waiting(path: str, flags: int) -> int:
    """Open as usual, except that a pipe is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step; one that holds these bytes already is not touched.

    A link at `path` is replaced, not followed.
    """
    try:
        if read_plain(path, max(len(data), 1)) == data:
            return
    except OSError:
        pass  # missing, larger, or not a file: replace it
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # "x" follows no link
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def swap(new: Path, home: Path) -> None:
    """Put the folder `new` at `home`; if there was a folder at `home`, it is at `new` afterwards.

    This is one atomic operation where the system has it (Linux 3.15, macOS 10.12), else two
    renames, between which `home` does not exist.
    """
    if not home.exists():
        new.replace(home)
    elif not _exchange(new, home):
        aside = new.with_name(f"{new.name}.old")
        home.replace(aside)
        new.replace(home)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths; False if the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _EXCHANGE)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))
