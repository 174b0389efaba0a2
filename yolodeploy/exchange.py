"""Put a finished folder in another's place in one move."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2  # Linux: RENAME_EXCHANGE (renameat2); macOS: RENAME_SWAP (renamex_np)
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def exchange(new: Path, home: Path) -> None:
    """Make `home` the folder that was `new`; what was at `home` is at `new` afterwards.

    One atomic operation where the system has it (Linux 3.15, macOS 10.12); elsewhere two
    renames, between which `home` does not exist.
    """
    if not home.exists():
        new.replace(home)
    elif not _swap(new, home):
        aside = new.with_name(f"{new.name}.old")
        home.replace(aside)
        new.replace(home)


def _swap(one: Path, other: Path) -> bool:
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
