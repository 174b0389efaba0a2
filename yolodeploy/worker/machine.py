"""What a machine says of itself: its processor, its memory, and how warm it is."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

_ANDROID = hasattr(sys, "getandroidapilevel")
EMULATED = os.environ.get("YOLODEPLOY_EMULATED", "")  # the processor; /proc shows the one below


@cache
def cpu_name() -> str:
    """The processor's name as the operating system gives it; of an emulated one, the name that it was given."""
    if EMULATED:
        return EMULATED
    lines = _read("/proc/cpuinfo").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else _board() or platform.processor() or platform.machine()


def threads() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in megabytes (1e6 bytes).

    Where a process was started by vfork, Linux's `ru_maxrss` begins at the parent's peak, so the
    process's own figure is read from /proc (VmHWM, in KiB). macOS counts in bytes.
    """
    lines = _read("/proc/self/status").splitlines()
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def described() -> dict[str, Any]:
    """This machine as plain data: what it is, and what of it a device's entry can be compared with.

    `board` is the name in the device tree (Arm boards), of the Mac or of the phone, `names` is what else it is known by, and
    `features` are the processor's, as Linux lists them. `emulated` says that another processor pretends to be this one.
    """
    return {
        "system": "Android" if _ANDROID else platform.system(),
        "release": platform.mac_ver()[0] or platform.release(),
        "arch": _arch(),
        "cpu": cpu_name(),
        "processors": threads(),
        "board": "" if EMULATED else _board(),
        "names": [] if EMULATED else _names(),
        "features": [] if EMULATED else _features(),
        "emulated": bool(EMULATED),
        "python": platform.python_version(),
    }


def climate() -> dict[str, Any]:
    """What slows a machine down: the highest temperature in degrees Celsius, and the clocks' governors; what is known."""
    zones = [_number(path / "temp") for path in Path("/sys/class/thermal").glob("thermal_zone*")]
    known = [milli / 1000 for milli in zones if milli is not None and 0 < milli < 200_000]
    governors = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found: dict[str, Any] = {}
    if known:
        found["celsius"] = round(max(known), 1)
    if names := sorted({_read(path).strip() for path in governors} - {""}):
        found["governors"] = names
    return found


def _arch() -> str:
    """The architecture for which this Python was built: that of the kernel, except on a 64-bit one with 32-bit programs."""
    name = platform.machine()
    return "armv8l" if name == "aarch64" and sys.maxsize < 1 << 32 else name


def _board() -> str:
    if sys.platform == "darwin":
        return " ".join(_said("/usr/sbin/sysctl", "-n", "hw.model", "machdep.cpu.brand_string"))
    if _ANDROID:
        return " ".join(_said("/system/bin/getprop", "ro.product.model"))
    return _read("/proc/device-tree/model").strip("\0\n ")


def _names() -> list[str]:
    """What else the machine is known by: what its device tree says it is compatible with, or the Mac's or phone's model."""
    if sys.platform == "darwin":
        return _said("/usr/sbin/sysctl", "-n", "hw.model")
    if _ANDROID:
        return _said("/system/bin/getprop", "ro.soc.model")
    return [name for name in _read("/proc/device-tree/compatible").split("\0") if name.strip()]


def _said(*command: str) -> list[str]:
    """The lines that a command of the system prints."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return []
    return found.stdout.split("\n")[:-1]


def _features() -> list[str]:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("Features", "flags"):
            return sorted(value.split())
    return []


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
