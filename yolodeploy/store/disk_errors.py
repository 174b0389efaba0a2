"""Turn errors of the operating system into messages that say what to do about the store."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from yolodeploy.errors import StoreProblem

VARIABLE = "YOLODEPLOY_CACHE"
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
DISK_ERRORS = DISK_FULL | {errno.EFBIG}  # not the fault of the step that meets them
_MOVE = f"choose another folder with --cache or {VARIABLE}"
_PERMISSION = f"A result that is not in the store yet needs a store that can be written; {_MOVE}."
_NO_LOCKS = f"The store needs a file system that can lock files; {_MOVE}."
_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
    errno.EFBIG: f"The file system, or `ulimit -f`, does not allow files that large; {_MOVE}.",
}


@contextlib.contextmanager
def explained(root: Path) -> Iterator[None]:
    """Raise StoreProblem, with the remedy, for OSErrors and lock timeouts in the store at `root`."""
    try:
        yield
    except Timeout:
        raise StoreProblem(
            f"{root}: another process, perhaps `cache prune`, keeps the store locked. Wait until it "
            f"has ended, or stop it; or {_MOVE}."
        ) from None
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StoreProblem(
                f"{root}: the disk is full. Free some space, `yolodeploy cache prune`, or {_MOVE}."
            ) from None
        remedy = _REMEDIES.get(error.errno or 0, f"The store must be writable; {_MOVE}.")
        raise StoreProblem(
            f"{error.filename or root}: {error.strerror or error}. {remedy}"
        ) from None
