"""Removes what a process made for the time that it lives, when it has ended, however it ended.

    python -P -m yolodeploy.system.sweeper PATH... < pipe

The pipe is held open by that process, which started this one. Whatever else has files open in a folder that goes is ended first, or it would
make the folder again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Wait for the end of standard input, then remove the files and folders that the arguments name."""
    parent = os.getppid()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # which are meant for the other process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.stdin.buffer.read()
    for path in map(Path, sys.argv[1:]):
        if not path.is_dir():
            path.unlink(missing_ok=True)
            continue
        for process in set(_users(path)) - {parent}:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(path, ignore_errors=True)


def _users(folder: Path) -> Iterator[int]:
    """The processes that have files open below a folder; none where there is no /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(file).startswith(f"{folder}/") for file in process.glob("fd/*")):  # noqa: PTH115 - a link in /proc need not be a path
                yield int(process.name)


if __name__ == "__main__":
    main()
