"""What a plugin raises, or dies of, becomes one message that says where and in what."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from yolodeploy import lastwords
from yolodeploy.diskfaults import DISK
from yolodeploy.errors import EnvironmentProblem, StepFailed, YolodeployError
from yolodeploy.yamlfile import Position

_NO_SPACE = os.strerror(errno.ENOSPC)
_NO_MEMORY = "allocate memory"  # as the C library has it, and tools quote it


@contextlib.contextmanager
def failing_as(at: Position, what: str) -> Iterator[None]:
    """Turn whatever a plugin raises into one message that says where and in what; a full disk passes."""
    try:
        with lastwords.doing(f"{at}: {what}"):
            yield
    except YolodeployError as fault:
        if _NO_SPACE in str(fault):
            raise OSError(errno.ENOSPC, _NO_SPACE) from fault
        raise type(fault)(f"{at}: {fault}") from fault
    except (Exception, SystemExit) as fault:  # a tool may fail in any way
        if isinstance(fault, OSError) and fault.errno in DISK:
            raise
        if _NO_SPACE in str(fault):  # tools that write by themselves give only the words
            raise OSError(errno.ENOSPC, _NO_SPACE) from fault
        if isinstance(fault, MemoryError) or _NO_MEMORY in str(fault):
            raise EnvironmentProblem(
                f"{at}: {what} ran out of memory. Close other programs, or use fewer images, a smaller "
                "batch or imgsz."
            ) from fault
        raise StepFailed(f"{at}: {what} failed: {reason(fault)}") from fault


def reason(fault: BaseException) -> str:
    """What an exception of a tool says, in one line."""
    lines = str(fault).strip().splitlines()
    text = f"{type(fault).__name__}: {lines[-1]}" if lines else type(fault).__name__
    hint = " Is the tool installed?" if getattr(fault, "errno", None) == errno.ENOENT else ""
    return f"{text.rstrip('.')}.{hint} Run with -v for the whole trace."
