"""`yolodeploy devices`: what a recipe can target."""

from __future__ import annotations

import argparse
import re
import textwrap
from itertools import groupby
from typing import Any

from yolodeploy.cli.common import print_result
from yolodeploy.system import Console

HELP = "list the devices that a recipe can target"


def run(options: argparse.Namespace, console: Console) -> int:
    """List devices with the OS versions they run."""
    from yolodeploy.backend import load_registry

    rows = [
        {
            "name": device.name,
            "title": device.title,
            "backend": name,
            "os": device.os,
            "os_min": device.os_min,
            "os_max": device.os_max,
            "features": sorted(device.features),
            "generic": device.generic,
            "gpus": sorted(device.gpus),
            "source": device.source,
        }
        for name, plugin in load_registry().backends.items()
        for device in plugin.DEVICES
    ]
    groups = groupby(rows, lambda row: row["backend"])
    text = "\n\n".join("\n".join([f"{name}:", *map(_line, group)]) for name, group in groups)
    print_result(console, options, rows, text)
    return 0


def _line(row: dict[str, Any]) -> str:
    """One device: its name, what it runs, and its title without the list of the chip's cores."""
    head = f"  {row['name']:<21} {_os(row):<11} "
    title = re.sub(r": [^()]*\)", ")", row["title"])
    title += f", gpu: {', '.join(row['gpus'])}" if row["gpus"] else ""
    return textwrap.fill(title, 80, initial_indent=head, subsequent_indent=" " * len(head))


def _os(row: dict[str, Any]) -> str:
    if not row["os_min"]:
        return str(row["os"])
    return f"{row['os']} {row['os_min']}{'-' + row['os_max'] if row['os_max'] else '+'}"
