"""`yolodeploy verify`: whether bundles are, byte for byte, what `deploy` wrote and a lock names.

It reads the bundle alone: no toolchain, no store, no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import print_result
from yolodeploy.errors import VerificationFailed
from yolodeploy.system import Console, quotable, shown

if TYPE_CHECKING:
    from yolodeploy.bundle import Inspection

HELP = "check whether bundles are, byte for byte, what was deployed"


def add_options(command: argparse.ArgumentParser) -> None:
    """The bundles, and what to compare them with."""
    command.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="dist/NAME")
    command.add_argument(
        "--lock", type=Path, metavar="FILE", help="the recipe's lock file to compare with"
    )
    command.add_argument(
        "--key", type=Path, metavar="FILE", help="the signer's Ed25519 public key (PEM)"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Check every bundle; return the exit code of the first error."""
    from yolodeploy.bundle import inspect_bundle, lock_problems
    from yolodeploy.bundle.attest import read_public
    from yolodeploy.planning import read_lock

    lock = read_lock(options.lock) if options.lock else None
    key = read_public(options.key) if options.key else None
    rows, code = [], 0
    for folder in options.bundles:
        found = inspect_bundle(folder, key)
        problems = [*found.problems, *(lock_problems(found, lock) if lock else ())]
        row = {"bundle": str(folder), "ok": not problems, **_about(found), "faults": problems}
        rows.append(row)
        if problems:
            code = code or VerificationFailed.exit_code
            console.error(f"{shown(folder)} is not what was deployed:\n  " + "\n  ".join(problems))
    good = [_line(row) for row in rows if row["ok"]]
    if good or options.json:
        print_result(console, options, rows, "\n".join(good))
    return code


def _about(found: Inspection) -> dict[str, Any]:
    """Which bundle it claims to be, and where else it was measured."""
    target = found.plan.get("target")
    device = target.get("device") if isinstance(target, dict) else None
    places = [
        {"host": each.place.host, "on_device": each.place.on_device, "words": each.words()}
        for each in found.sets
    ]
    about = {"recipe": found.report.get("name"), "device": device, "id": found.id}
    return {**about, "evidence": places}


def _line(row: Mapping[str, Any]) -> str:
    recipe, device = (" ".join(str(row[key]).split()) for key in ("recipe", "device"))
    elsewhere = "".join(
        f"\n  evidence from {quotable(place['words'], 300)}" for place in row["evidence"]
    )
    return f"{row['bundle']}: ok, {recipe} for {device}, bundle {row['id'][:12]}{elsewhere}"
