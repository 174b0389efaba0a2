"""What an error of the operating system means for the store, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from yolodeploy.errors import StoreProblem

VARIABLE = "YOLODEPLOY_CACHE"
FULL = {errno.ENOSPC, errno.EDQUOT}
DISK = FULL | {errno.EFBIG}  # no fault of the step that meets them
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_ELSEWHERE = f"choose another folder with --cache or {VARIABLE}"


@contextlib.contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what the operating system refuses below the store `root` into one message with the remedy."""
    try:
        yield
    except Timeout:
        raise StoreProblem(
            f"{root}: another process, a `cache prune` perhaps, does not let go of it. Wait until that has "
            f"ended, or end it; or {_ELSEWHERE}."
        ) from None
    except OSError as fault:
        if fault.errno in FULL:
            raise StoreProblem(
                f"{root}: the disk is full. Free some space, `yolodeploy cache prune`, or {_ELSEWHERE}."
            ) from None
        raise StoreProblem(
            f"{fault.filename or root}: {fault.strerror or fault}. {_remedy(fault.errno)}"
        ) from None


def _remedy(code: int | None) -> str:
    if code in _FORBIDDEN:
        return f"A result that is not in the store yet needs one that can be written; {_ELSEWHERE}."
    if code in _NO_LOCKS:
        return f"The store needs a file system that can lock files; {_ELSEWHERE}."
    if code == errno.EFBIG:
        return f"The file system, or `ulimit -f`, allows no file that large; {_ELSEWHERE}."
    return f"The store must be writable; {_ELSEWHERE}."
