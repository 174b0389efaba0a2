"""The commands that look after the machine and the store: `doctor` and `cache`."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import time
from pathlib import Path

from yolodeploy.commands import store_of
from yolodeploy.console import Console, answer
from yolodeploy.errors import EnvironmentProblem, RecipeError, StoreProblem
from yolodeploy.objects import fault
from yolodeploy.registry import load_registry, problem_of
from yolodeploy.store import Store
from yolodeploy.yamlfile import shown

_LEAST_FREE_GB = 2.0
_DAYS = 30.0


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Check the machine; exit code 4 if something that every build needs is missing."""
    root = store_of(options).root
    findings = [
        ("Python", sys.version.split()[0], True),
        _writable("store", root),
        _free(root),
        _writable("dist", Path("dist")),
    ]
    registry = load_registry()
    plugins = [
        (name, problem or "ready", problem is None)
        for name, problem in ((n, problem_of(p)) for n, p in registry.backends.items())
    ]
    plugins += [(name, f"broken: {reason}", False) for name, reason in registry.broken.items()]
    rows = [{"what": what, "finding": text, "ok": ok} for what, text, ok in findings + plugins]
    answer(
        console,
        options,
        rows,
        "\n".join(f"{'ok ' if r['ok'] else 'NO '} {r['what']:<12} {r['finding']}" for r in rows),
    )
    bad = [text for _, text, ok in findings if not ok]
    for text in bad:
        console.error(text)
    return EnvironmentProblem.exit_code if bad else 0


def _writable(what: str, folder: Path) -> tuple[str, str, bool]:
    nearest = _existing(folder)
    if not nearest.is_dir():
        text = f"{shown(nearest)} is a file, not a folder. Choose another folder with --cache or --dist."
        return what, text, False
    if os.access(nearest, os.W_OK):
        return what, f"{shown(folder)} can be written", True
    return (
        what,
        f"{nearest} cannot be written. Choose another folder with --cache or --dist.",
        False,
    )


def _free(folder: Path) -> tuple[str, str, bool]:
    free = shutil.disk_usage(_existing(folder)).free / 1e9
    if free >= _LEAST_FREE_GB:
        return "disk", f"{free:.0f} GB free", True
    return (
        "disk",
        f"only {free:.1f} GB free. Make room, or choose another folder with --cache.",
        False,
    )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def cache(options: argparse.Namespace, console: Console) -> int:
    """Show, verify or prune the store."""
    if options.action != "prune" and (options.all or options.days is not None):
        raise RecipeError(
            f"--all and --days go with `cache prune`, not with `cache {options.action}`"
        )
    if options.days is not None and not 0 <= options.days < math.inf:
        raise RecipeError(f"--days {options.days:g} is no age. Give a number of days from 0 on.")
    store = store_of(options)
    action = {"show": _show, "verify": _verify, "prune": _prune}[options.action]
    return action(store, options, console)


def _show(store: Store, options: argparse.Namespace, console: Console) -> int:
    metas = [meta for _, meta in store.entries() if meta]
    rows = [vars(meta) for meta in sorted(metas, key=lambda meta: meta.created)]
    lines = [
        f"{meta['id'][:12]}  {meta['step']:<10} {meta['format']:<10} {meta['bytes'] / 1e6:9.2f} MB  "
        f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(meta['created']))}"
        for meta in rows
    ]
    total = sum(meta.bytes for meta in metas) / 1e6
    lines.append(f"{len(rows)} results, {total:.2f} MB in {store.root}")
    answer(console, options, {"root": str(store.root), "objects": rows}, "\n".join(lines))
    return 0


def _verify(store: Store, options: argparse.Namespace, console: Console) -> int:
    faults = {}
    for home, meta in store.entries():
        reason = fault(home, meta) if meta else "its description cannot be read"
        if reason and os.path.lexists(home):  # and not pruned in the meantime
            faults[home.name] = reason
    count = sum(1 for _ in store.entries())
    lines = [f"{id_[:12]} {reason}" for id_, reason in faults.items()]
    answer(
        console,
        options,
        {"checked": count, "damaged": faults},
        "\n".join([*lines, f"{count} results checked, {len(faults)} damaged"]),
    )
    if faults:
        console.error(
            f"{len(faults)} damaged results. They are made again when needed; `yolodeploy cache prune` removes them."
        )
    return StoreProblem.exit_code if faults else 0


def _prune(store: Store, options: argparse.Namespace, console: Console) -> int:
    oldest = time.time() - (_DAYS if options.days is None else options.days) * 86400
    removed, freed, kept = 0, store.sweep(math.inf if options.all else oldest), 0
    for home, meta in store.entries():
        if options.all or meta is None or meta.created < oldest or fault(home, meta):
            if store.remove(home):
                removed, freed = removed + 1, freed + (meta.bytes if meta else 0)
            elif home.exists():
                kept += 1
    used = f"; {kept} are used by a build that is running, and stay" if kept else ""
    answer(
        console,
        options,
        {"removed": removed, "bytes": freed, "in_use": kept},
        f"{removed} results removed, {freed / 1e6:.2f} MB freed{used}",
    )
    return 0
