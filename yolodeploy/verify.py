"""The command `verify`: whether a bundle is, byte for byte, what `deploy` wrote and a lock names.

It reads the bundle alone: no toolchain, no store, no network.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from yolodeploy.console import Console, answer
from yolodeploy.digest import digest_of, file_digest
from yolodeploy.errors import VerificationFailed
from yolodeploy.lock import differences, read_lock
from yolodeploy.manifest import (
    MANIFEST,
    PLAN,
    PROVENANCE,
    REPORT,
    SIGNATURE,
    identify,
    is_artifact,
    read_json,
    read_manifest,
)
from yolodeploy.provenance import disagreements
from yolodeploy.signing import payload_of, require_signature
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


def verify(options: argparse.Namespace, console: Console) -> int:
    """Check every bundle; the exit code is that of the first fault."""
    lock = read_lock(options.lock) if options.lock else None
    key = _key(options.key) if options.key else None
    rows, code = [], 0
    for folder in options.bundles:
        faults = list(faults_of(folder, lock, key))
        rows.append({"bundle": str(folder), "ok": not faults, "faults": faults})
        if faults:
            code = code or VerificationFailed.exit_code
            console.error(f"{shown(folder)} is not what was deployed:\n  " + "\n  ".join(faults))
    good = [f"{row['bundle']}: ok" for row in rows if row["ok"]]
    if good or options.json:
        answer(console, options, rows, "\n".join(good))
    return code


def _key(file: Path) -> SSlibKey:
    from yolodeploy.signing import read_public

    return read_public(file)


def faults_of(folder: Path, lock: Mapping[str, Any] | None, key: SSlibKey | None) -> Iterator[str]:
    """Everything that is wrong with a bundle, one sentence each."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as fault:
        yield f"{MANIFEST} cannot be read: {_reason(fault)}"
        return
    found, digests = dict(_walk(folder)), dict[str, str]()
    for name, plain in found.items():
        try:
            digests |= {name: file_digest(folder / name)} if plain else {}
        except OSError as fault:
            yield f"{name} cannot be read: {_reason(fault)}"
            return
    yield from _file_faults(found, digests, manifest.files)
    try:
        plan, report = read_json(folder / PLAN), read_json(folder / REPORT)
        if identify(plan, report) != manifest.id:
            yield f"{MANIFEST} has another id than {PLAN} and {REPORT} give"
        if _artifact_digest(digests) != report["artifact"]["digest"]:
            yield f"the artifact is not the one that {REPORT} measured"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        yield f"{PLAN} or {REPORT} cannot be read: {_reason(fault)}"
        return
    yield from _provenance_faults(folder, digests, manifest.id, key)
    if lock is not None:
        try:
            yield from _lock_faults(plan, report, lock)
        except (KeyError, TypeError, AttributeError) as fault:
            yield f"lock: {PLAN} cannot be held against it: {_reason(fault)}"


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Everything below a folder that is no folder, by relative POSIX path, and whether it is a plain file."""
    for base, folders, files in os.walk(folder):
        for name in sorted([*files, *(f for f in folders if (Path(base) / f).is_symlink())]):
            path = Path(base) / name
            plain = stat.S_ISREG(path.lstat().st_mode)
            yield path.relative_to(folder).as_posix(), plain


def _file_faults(
    found: Mapping[str, bool], digests: Mapping[str, str], listed: Mapping[str, str]
) -> Iterator[str]:
    for name in sorted({*found, *listed} - {MANIFEST}):
        if name not in listed:
            yield f"{name} is not in {MANIFEST}"
        elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield f"{name} in {MANIFEST} leads out of the bundle"
        elif name not in found:
            yield f"{name} is missing"
        elif not found[name]:
            yield f"{name} is a link or a device, not a file"
        elif digests[name] != listed[name]:
            yield f"{name} was changed: its sha256 is {digests[name]}, not {listed[name]}"
    if not found.get(MANIFEST):
        yield f"{MANIFEST} is a link or a device, not a file"


def _artifact_digest(digests: Mapping[str, str]) -> str:
    """As the store takes it: of all files but those that the bundle adds."""
    return digest_of({n: digest for n, digest in digests.items() if is_artifact(n)})


def _provenance_faults(
    folder: Path, digests: Mapping[str, str], id_: str, key: SSlibKey | None
) -> Iterator[str]:
    """What the provenance does not vouch for, and what is wrong with its signature."""
    try:
        yield from disagreements(read_json(folder / PROVENANCE), digests, id_)
        text = (folder / PROVENANCE).read_bytes()
    except (OSError, ValueError) as fault:
        yield f"{PROVENANCE} cannot be read: {_reason(fault)}"
        return
    if SIGNATURE in digests:
        yield from _signature_faults(folder, text, key)
    elif key is not None:
        yield f"{SIGNATURE} is missing: the bundle is not signed"


def _signature_faults(folder: Path, text: bytes, key: SSlibKey | None) -> Iterator[str]:
    try:
        value = read_json(folder / SIGNATURE)
        if payload_of(value) != text:
            yield f"{SIGNATURE} signs another text than {PROVENANCE}"
        if key is not None:
            require_signature(value, key)
    except (OSError, ValueError) as fault:
        yield f"{SIGNATURE} is not valid: {_reason(fault)}"


def _lock_faults(
    plan: Mapping[str, Any], report: Mapping[str, Any], lock: Mapping[str, Any]
) -> Iterator[str]:
    """What the bundle says and holds against what the lock file says."""
    keys = ("name", "params", "id")
    steps = [{key: step[key] for key in keys} for step in plan["steps"]]
    target = {key: plan["target"][key] for key in ("device", "os")}
    bundle = {
        "recipe": report["name"],
        "target": target,
        "model": plan["weights"],
        "data": plan["data"],
        "versions": plan["versions"],
        "steps": steps,
    }
    locked = {key: lock.get(key) for key in bundle}
    locked["steps"] = [{key: step.get(key) for key in keys} for step in lock["steps"]]
    yield from (f"lock: {line}" for line in differences(locked, bundle))
    output = lock["steps"][-1].get("output") if lock["steps"] else None
    if output != report["artifact"]["digest"]:
        yield f"lock: the artifact should be {output}, and is {report['artifact']['digest']}"


def _reason(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return f"it lacks {fault}" if isinstance(fault, KeyError) else str(fault)
