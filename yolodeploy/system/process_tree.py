"""Which processes a process has started, and an end to those that outlive their purpose."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection

_POLL = 0.05  # seconds


def descendants(root: int) -> set[int]:
    """The living processes that a process started, and those that these started; empty where `ps` is not there."""
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        pid, parent, state = line.split(maxsplit=2)
        if not state.startswith("Z"):
            children.setdefault(int(parent), []).append(int(pid))
    found, left = set[int](), [root]
    while left:
        new = set(children.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def end_processes(processes: Collection[int], seconds: float) -> None:
    """Wait until processes have ended; after some seconds, kill those that have not."""
    until = time.monotonic() + seconds
    while (alive := [pid for pid in processes if _lives(pid)]) and time.monotonic() < until:
        time.sleep(_POLL)
    for pid in alive:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of this process that has ended
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
