"""`yolodeploy backends`: the installed plugins, usable or not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import print_result
from yolodeploy.system import Console

if TYPE_CHECKING:
    from yolodeploy.backend import Backend

HELP = "list the installed plugins, usable or not"


def run(options: argparse.Namespace, console: Console) -> int:
    """List plugins; the exit code is 0 even if one is broken, because that is an answer too."""
    from yolodeploy.backend import load_registry, problem_of

    registry = load_registry()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "problem": problem_of(plugin),
            "steps": [f"{step.name}: {step.accepts} -> {step.produces}" for step in plugin.STEPS],
            "devices": [device.name for device in plugin.DEVICES],
            "versions": _versions(plugin),
        }
        for name, plugin in registry.backends.items()
    ]
    broken = [{"name": name, "problem": reason} for name, reason in registry.broken.items()]
    lines = []
    for row in rows:
        lines.append(f"{row['name']:<12} {row['problem'] or 'ready'}")
        lines += [f"{'':<12} {step}" for step in row["steps"]]
    lines += [f"{row['name']:<12} BROKEN: {row['problem']}" for row in broken]
    print_result(console, options, {"backends": rows, "broken": broken}, "\n".join(lines))
    return 0


def _versions(plugin: Backend) -> dict[str, str]:
    try:
        return dict(plugin.versions())
    except Exception:  # noqa: BLE001 - `problem` says what is wrong with the plugin
        return {}
