"""What a Ray inherits from the process that starts it or connects to it, and what that process keeps to itself."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from yolodeploy.system import child_environment

_SHORT = 40  # characters of a folder in which Ray can make sockets
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_memory_monitor_refresh_ms": "0",  # a job that runs out of memory must end, not run again and again
    "RAY_raylet_start_wait_time_s": "180",  # for a machine that is busy
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextlib.contextmanager
def inherited_by_ray(*, own: bool) -> Iterator[None]:
    """In the block, environment and current folder are those that Ray's processes are to get.

    They inherit both. The current folder may hold a stranger's modules, and Ray puts it on the import path. A Ray of our `own`
    gets a token, or it would write one into the home folder.
    """
    before, folder = dict(os.environ), Path.cwd()
    changed = {**child_environment(), **_QUIET}
    if own:
        changed["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        _set_environment(changed)
        os.chdir(tempfile.gettempdir())
        yield
    finally:
        os.chdir(folder)
        _set_environment(before)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    """Keep this process's way of handling signals, which Ray changes."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def short_folder() -> str | None:
    """A folder for temporary files in which Ray can make sockets, whose paths must be short; None: the usual one."""
    return None if len(tempfile.gettempdir()) < _SHORT or os.name != "posix" else os.sep + "tmp"


def first_reason(error: BaseException) -> str:
    """What went wrong first, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
