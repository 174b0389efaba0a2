"""The command `verify`: whether a bundle is, byte for byte, what `deploy` wrote and a lock names.

It reads the bundle alone: no toolchain, no store, no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.console import Console, answer
from yolodeploy.errors import VerificationFailed
from yolodeploy.lock import differences, read_lock
from yolodeploy.manifest import APP_FILES, PLAN
from yolodeploy.whole import Inspection, inspect, reason
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

_STEP = ("name", "params", "id")


def verify(options: argparse.Namespace, console: Console) -> int:
    """Check every bundle; the exit code is that of the first fault."""
    lock = read_lock(options.lock) if options.lock else None
    key = _key(options.key) if options.key else None
    rows, code = [], 0
    for folder in options.bundles:
        found = inspect(folder, key)
        faults = [*found.faults, *lock_faults(found, lock)]
        rows.append({"bundle": str(folder), "ok": not faults, **_about(found), "faults": faults})
        if faults:
            code = code or VerificationFailed.exit_code
            console.error(f"{shown(folder)} is not what was deployed:\n  " + "\n  ".join(faults))
    good = [_good(row) for row in rows if row["ok"]]
    if good or options.json:
        answer(console, options, rows, "\n".join(good))
    return code


def _key(file: Path) -> SSlibKey:
    from yolodeploy.signing import read_public

    return read_public(file)


def _about(found: Inspection) -> dict[str, str | None]:
    """Which bundle it says it is."""
    target = found.plan.get("target")
    device = target.get("device") if isinstance(target, dict) else None
    return {"recipe": found.report.get("name"), "device": device, "id": found.id}


def _good(row: Mapping[str, Any]) -> str:
    recipe, device = (" ".join(str(row[key]).split()) for key in ("recipe", "device"))
    return f"{row['bundle']}: ok, {recipe} for {device}, bundle {row['id'][:12]}"


def lock_faults(found: Inspection, lock: Mapping[str, Any] | None) -> Iterator[str]:
    """What the bundle says and holds against what the lock file says."""
    if lock is None or found.id is None:
        return
    try:
        yield from (f"lock: {line}" for line in differences(_locked(lock), _built(found)))
        output = lock["steps"][-1].get("output") if lock["steps"] else None
        digest = found.report["artifact"]["digest"]
        if output != digest:
            yield f"lock: the artifact should be {output}, and is {digest}"
    except (KeyError, TypeError, AttributeError) as fault:
        yield f"lock: {PLAN} cannot be held against it: {reason(fault)}"


def _built(found: Inspection) -> dict[str, Any]:
    """What a lock file says of a build, as a bundle has it."""
    plan = found.plan
    backends = {plan["target"]["backend"], *(step["backend"] for step in plan["steps"])}
    return {
        "recipe": found.report["name"],
        "target": {key: plan["target"][key] for key in ("device", "os")},
        "model": plan["weights"],
        "imgsz": plan["recipe"]["model"]["imgsz"],
        "seed": plan["recipe"]["seed"],
        "data": plan["data"],
        "versions": plan["versions"],
        "backends": ", ".join(sorted(backends)),
        "steps": [{key: step[key] for key in _STEP} for step in plan["steps"]],
        "bundle": {name: found.digests.get(name) for name in APP_FILES},
    }


def _locked(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a lock file: its versions are by backend."""
    keys = ("recipe", "target", "model", "imgsz", "seed", "data", "versions")
    return {
        **{key: lock.get(key) for key in keys},
        "backends": ", ".join(sorted(lock["versions"])),
        "steps": [{key: step.get(key) for key in _STEP} for step in lock["steps"]],
        "bundle": lock.get("bundle", {}),
    }
