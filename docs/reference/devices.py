"""The page of all devices, from the tables of the installed plugins."""

from __future__ import annotations

from reference.text import table
from yolodeploy.backend import Device, Registry

INTRODUCTION = """\
# Devices

Generated from the tables of the plugins, as `yolodeploy devices` lists them. A generic device stands for all of its kind, with
what all of them have. `yolodeploy devices --json` adds where each fact comes from. To measure on a device itself, see
[Devices and hosts](../devices.md).
"""
_HEADER = ("device", "what it is", "os", "features", "gpu")


def devices_page(registry: Registry) -> str:
    """Every device, by backend."""
    parts = [INTRODUCTION]
    for name, plugin in sorted(registry.backends.items()):
        if plugin.DEVICES:
            parts += [f"## {name}", _table(list(map(_row, plugin.DEVICES)))]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[tuple[str, ...]]) -> str:
    """The devices, without columns in which none has anything."""
    used = [place for place, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    return table(
        [_HEADER[place] for place in used], ([row[place] for place in used] for row in rows)
    )


def _row(device: Device) -> tuple[str, ...]:
    kind = f"{device.title} (generic)" if device.generic else device.title
    features = ", ".join(sorted(device.features))
    return f"`{device.name}`", kind, _systems(device), features, ", ".join(sorted(device.gpus))


def _systems(device: Device) -> str:
    if device.os_min is None:
        return device.os
    newest = f" to {device.os_max}" if device.os_max else " and newer"
    return f"{device.os} {device.os_min}{newest}"
