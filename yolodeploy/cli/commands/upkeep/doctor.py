"""`yolodeploy doctor`: what works on this machine, and how to fix what does not."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from yolodeploy.cli.common import open_store, print_result
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system import Console, shown

HELP = "show what works on this machine, and how to fix what does not"
_MIN_FREE_GB = 2.0
_OTHER_FOLDER = "Choose another folder with --cache or --dist."

Finding = tuple[str, str, bool]  # what was checked, what was found, whether that is fine


def run(options: argparse.Namespace, console: Console) -> int:
    """Check the machine; exit code 4 if something that every build needs is missing."""
    root = open_store(options, console).root
    findings = [
        ("Python", sys.version.split()[0], True),
        _writable("store", root),
        _free(root),
        _writable("dist", Path("dist")),
    ]
    rows = [
        {"what": what, "finding": text, "ok": ok} for what, text, ok in [*findings, *_plugins()]
    ]
    lines = [f"{'ok ' if row['ok'] else 'NO '} {row['what']:<12} {row['finding']}" for row in rows]
    print_result(console, options, rows, "\n".join(lines))
    bad = [text for _, text, ok in findings if not ok]
    for text in bad:
        console.error(text)
    return EnvironmentProblem.exit_code if bad else 0


def _plugins() -> list[Finding]:
    from yolodeploy.backend import load_registry, problem_of

    registry = load_registry()
    problems = {name: problem_of(plugin) for name, plugin in registry.backends.items()}
    found = [(name, problem or "ready", problem is None) for name, problem in problems.items()]
    broken = [(name, f"broken: {reason}", False) for name, reason in registry.broken.items()]
    return [*found, *broken]


def _writable(what: str, folder: Path) -> Finding:
    nearest = _existing(folder)
    if not nearest.is_dir():
        return what, f"{shown(nearest)} is a file, not a folder. {_OTHER_FOLDER}", False
    if os.access(nearest, os.W_OK):
        return what, f"{shown(folder)} is writable", True
    return what, f"{nearest} is not writable. {_OTHER_FOLDER}", False


def _free(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free / 1e9
    if free >= _MIN_FREE_GB:
        return "disk", f"{free:.0f} GB free", True
    remedy = "Free some space, or choose another folder with --cache."
    return "disk", f"only {free:.1f} GB free. {remedy}", False


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
