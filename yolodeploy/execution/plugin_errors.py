"""Turns whatever a plugin raises into one message that says where and during what."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from yolodeploy.errors import EnvironmentProblem, HostProblem, StepFailed, YolodeployError
from yolodeploy.execution.activity import doing
from yolodeploy.recipe import Position
from yolodeploy.store import DISK_ERRORS

_NO_SPACE = os.strerror(errno.ENOSPC)
_NO_MEMORY = "allocate memory"  # the words of the C library, which tools quote


@contextlib.contextmanager
def failing_as(at: Position, work: str) -> Iterator[None]:
    """Turn whatever is raised in the block into one message; a full disk stays an OSError."""
    try:
        with doing(f"{at}: {work}"):
            yield
    except YolodeployError as error:
        if _NO_SPACE in str(error) and not isinstance(error, HostProblem):  # that is a host's disk
            raise OSError(errno.ENOSPC, _NO_SPACE) from error
        raise type(error)(f"{at}: {error}") from error
    except (Exception, SystemExit) as error:  # a tool may fail in any way
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        if _NO_SPACE in str(error):  # tools that write by themselves quote only the words
            raise OSError(errno.ENOSPC, _NO_SPACE) from error
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            raise EnvironmentProblem(
                f"{at}: {work} ran out of memory. Close other programs, or use fewer images, a smaller "
                "batch or imgsz."
            ) from error
        raise StepFailed(f"{at}: {work} failed: {tool_message(error)}") from error


def tool_message(error: BaseException) -> str:
    """The message of a tool's exception, in one line."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
    hint = " Is the tool installed?" if getattr(error, "errno", None) == errno.ENOENT else ""
    return f"{text.rstrip('.')}.{hint} Run with -v for the full trace."
