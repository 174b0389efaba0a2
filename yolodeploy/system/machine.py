"""Describe this machine: for the report, and so that latencies of two machines never mix."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Any

from yolodeploy import __version__
from yolodeploy.system.distributions import installed

_LIBRARIES = ("numpy", "opencv-python-headless")  # read, decode and match


@cache
def cpu_name() -> str:
    """The processor's name as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def threads() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def conditions() -> dict[str, Any]:
    """Everything that a measurement depends on besides models, images and the backends' tools."""
    return {
        "machine": [cpu_name(), threads()],
        "yolodeploy": __version__,
        "core": installed(*_LIBRARIES),
    }


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in megabytes (1e6 bytes).

    Where a process was started by vfork, Linux's `ru_maxrss` begins at the parent's peak, so the
    process's own figure is read from /proc (VmHWM, in KiB). macOS counts in bytes.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
