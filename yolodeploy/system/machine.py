"""Describe this machine: for the report, and so that latencies of two machines never mix."""

from __future__ import annotations

from typing import Any

from yolodeploy import __version__
from yolodeploy.system.distributions import installed
from yolodeploy.worker import machine

# These are asked on other machines, too.
cpu_name, threads, peak_memory_mb = machine.cpu_name, machine.threads, machine.peak_memory_mb
described = machine.described

_LIBRARIES = ("numpy", "opencv-python-headless")  # read, decode and match


def conditions() -> dict[str, Any]:
    """Everything that a measurement depends on besides models, images and the backends' tools."""
    return {
        "machine": [cpu_name(), threads()],
        "yolodeploy": __version__,
        "core": installed(*_LIBRARIES),
    }
