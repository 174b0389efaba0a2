"""What a device says of itself over adb: what it is, which cores it has, and how warm it is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolodeploy.backend import Hardware
from yolodeploy.hosts.adb.client import Adb
from yolodeploy.system import quotable

_PROPERTIES = (
    *("ro.product.manufacturer", "ro.product.model", "ro.product.device", "ro.soc.model"),
    *("ro.soc.manufacturer", "ro.build.version.release", "ro.product.cpu.abilist"),
)
_TEXT, _CORES = 200, 1024
# Lines KEY=VALUE, with what toybox has, which is Android's shell tools.
_FACTS = f"""
for k in {" ".join(_PROPERTIES)}; do echo "$k=$(getprop $k 2>/dev/null)"; done
echo "system=$(uname -s)"; echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
echo "cpu=$(grep -m 1 -E '^(Hardware|model name)' /proc/cpuinfo | cut -d : -f 2)"
echo "features=$(grep -m 1 -E '^(Features|flags)' /proc/cpuinfo | cut -d : -f 2)"
for c in /sys/devices/system/cpu/cpu[0-9]*; do
echo "core.${{c##*/cpu}}=$(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null)"; done
"""
_CLIMATE = """
for z in /sys/class/thermal/thermal_zone*; do echo "zone=$(cat $z/temp 2>/dev/null)"; done
for g in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do echo "governor=$(cat $g 2>/dev/null)"; done
echo "status=$(dumpsys thermalservice 2>/dev/null | grep -m 1 'Thermal Status' | cut -d : -f 2)"
for k in level temperature status; do echo "battery.$k=$(dumpsys battery 2>/dev/null | grep -m 1 " $k:" | cut -d : -f 2)"; done
"""
# BatteryManager.BATTERY_STATUS_*, https://developer.android.com/reference/android/os/BatteryManager
_CHARGING = {"2": "charging", "3": "discharging", "4": "not charging", "5": "full"}


@dataclass(frozen=True)
class Facts:
    """What a device is; `cores` has the highest clock of each core in kHz (0: not known), `abis` what programs it runs."""

    hardware: Hardware
    machine: str
    abis: str
    cores: Mapping[int, int]

    def fastest(self, count: int) -> tuple[int, ...]:
        """So many of the cores with the highest clocks; none if the clocks are not known."""
        known = {core: clock for core, clock in self.cores.items() if clock}
        order = sorted(known, key=lambda core: (-known[core], core))
        return tuple(sorted(order[:count])) if len(order) >= count else ()


def facts(adb: Adb) -> Facts:
    """Ask the device what it is."""
    said = _lines(adb.shell(_FACTS))
    cores = {
        int(key[5:]): _clock(values[-1])
        for key, values in said.items()
        if re.fullmatch(r"core\.\d{1,4}", key, re.ASCII) and int(key[5:]) < _CORES
    }
    one = {key: values[-1] for key, values in said.items()}
    android = one.get("ro.build.version.release", "")
    names = (one.get("ro.soc.model"), one.get("ro.product.device"), one.get("ro.product.model"))
    hardware = Hardware(
        system="Android" if android else one.get("system", ""),
        release=android or one.get("kernel", ""),
        arch=one.get("machine", ""),
        cpu=one.get("ro.soc.model") or one.get("cpu", "") or one.get("machine", ""),
        processors=max(len(cores), 1),
        board=one.get("ro.product.model", ""),
        names=tuple(filter(None, names)),
        features=frozenset(one.get("features", "").split()),
    )
    return Facts(hardware, one.get("machine", ""), one.get("ro.product.cpu.abilist", ""), cores)


def climate(adb: Adb) -> dict[str, Any]:
    """What slows the device down, as far as it says: degrees Celsius, the state of Android's thermal service, battery."""
    said = _lines(adb.shell(_CLIMATE))
    found: dict[str, Any] = {}
    zones = [_celsius(value, 1000) for value in said.get("zone", ())]
    if known := [each for each in zones if each is not None and 0 < each < 200]:
        found["celsius"] = round(max(known), 1)
    if governors := sorted(set(said.get("governor", ())) - {""}):
        found["governors"] = governors[:20]
    if (status := said.get("status", [""])[-1]).isdecimal():
        found["thermal_status"] = min(int(status[:4]), 100)
    if (level := said.get("battery.level", [""])[-1]).isdecimal():
        found["battery_percent"] = min(int(level[:4]), 100)
    if (warm := _celsius(said.get("battery.temperature", [""])[-1], 10)) is not None:
        found["battery_celsius"] = warm
    if (charging := _CHARGING.get(said.get("battery.status", [""])[-1])) is not None:
        found["battery"] = charging
    return found


def _lines(said: str) -> dict[str, list[str]]:
    """The values by key, in one line each, without what controls a terminal."""
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            longest = 4000 if key == "features" else _TEXT
            found.setdefault(key, []).append(quotable(value.strip(), longest))
    return found


def _celsius(text: str, scale: int) -> float | None:
    try:
        value = float(text) / scale
    except ValueError:
        return None
    return round(value, 1) if math.isfinite(value) and abs(value) < 1000 else None


def _clock(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 12 else 0
