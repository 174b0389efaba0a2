"""`yolodeploy cache`: show, verify or prune the store."""

from __future__ import annotations

import argparse
import math
import os
import time
from typing import TYPE_CHECKING

from yolodeploy.cli.common import open_store, print_result
from yolodeploy.errors import RecipeError, StoreProblem
from yolodeploy.system import Console

if TYPE_CHECKING:
    from yolodeploy.store import Store

HELP = "show, verify or prune the store"
_DAYS = 30.0


def add_options(command: argparse.ArgumentParser) -> None:
    """What to do, and what `prune` removes."""
    command.add_argument(
        "action",
        nargs="?",
        choices=("show", "verify", "prune"),
        default="show",
        help="what to do with the store (default: show)",
    )
    command.add_argument("--all", action="store_true", help="prune: remove everything")
    command.add_argument(
        "--days",
        type=float,
        metavar="N",
        help="prune: remove results older than this many days (default: 30)",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Show, verify or prune the store."""
    if options.action != "prune" and (options.all or options.days is not None):
        raise RecipeError(
            f"--all and --days go with `cache prune`, not with `cache {options.action}`"
        )
    if options.days is not None and not 0 <= options.days < math.inf:
        raise RecipeError(f"--days {options.days:g}: must be a number of days, at least 0.")
    action = {"show": _show, "verify": _verify, "prune": _prune}[options.action]
    return action(open_store(options, console), options, console)


def _show(store: Store, options: argparse.Namespace, console: Console) -> int:
    metas = [meta for _, meta in store.entries() if meta]
    rows = [vars(meta) for meta in sorted(metas, key=lambda meta: meta.created)]
    lines = [
        f"{row['id'][:12]}  {row['step']:<10} {row['format']:<10} {row['bytes'] / 1e6:9.2f} MB  "
        f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(row['created']))}"
        for row in rows
    ]
    total = sum(meta.bytes for meta in metas) / 1e6
    lines.append(f"{len(rows)} results, {total:.2f} MB in {store.root}")
    print_result(console, options, {"root": str(store.root), "objects": rows}, "\n".join(lines))
    return 0


def _verify(store: Store, options: argparse.Namespace, console: Console) -> int:
    from yolodeploy.store import damage

    damaged = {}
    for home, meta in store.entries():
        reason = damage(home, meta) if meta else "its description cannot be read"
        if reason and os.path.lexists(home):  # and was not pruned in the meantime
            damaged[home.name] = reason
    count = sum(1 for _ in store.entries())
    lines = [f"{id_[:12]} {reason}" for id_, reason in damaged.items()]
    lines.append(f"{count} results checked, {len(damaged)} damaged")
    print_result(console, options, {"checked": count, "damaged": damaged}, "\n".join(lines))
    if damaged:
        console.error(
            f"{len(damaged)} damaged results. They are made again when needed; "
            "`yolodeploy cache prune` removes them."
        )
    return StoreProblem.exit_code if damaged else 0


def _prune(store: Store, options: argparse.Namespace, console: Console) -> int:
    from yolodeploy.store import damage

    oldest = time.time() - (_DAYS if options.days is None else options.days) * 86400
    removed, freed, kept = 0, store.sweep(math.inf if options.all else oldest), 0
    for home, meta in store.entries():
        if options.all or meta is None or meta.created < oldest or damage(home, meta):
            if store.remove(home):
                removed, freed = removed + 1, freed + (meta.bytes if meta else 0)
            elif home.exists():
                kept += 1
    used = f"; {kept} are in use by a running build and stay" if kept else ""
    value = {"removed": removed, "bytes": freed, "in_use": kept}
    text = f"{removed} results removed, {freed / 1e6:.2f} MB freed{used}"
    print_result(console, options, value, text)
    return 0
