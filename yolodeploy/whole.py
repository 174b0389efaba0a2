"""Whether a folder is a whole bundle: every file as the manifest lists it, all documents of one build.

`verify` asks this, and so does `deploy` before it leaves a bundle as it is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from yolodeploy import reading
from yolodeploy.digest import digest_of, file_digest
from yolodeploy.manifest import (
    MANIFEST,
    PLAN,
    PROVENANCE,
    REPORT,
    SIGNATURE,
    encoded,
    identify,
    is_artifact,
    is_known,
    read_json,
    read_manifest,
)
from yolodeploy.provenance import disagreements
from yolodeploy.signing import payload_of, require_signature, rewritten

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


@dataclass(frozen=True)
class Inspection:
    """What a folder was found to be: all that is wrong, a sentence each, and what could be read."""

    faults: Sequence[str]
    id: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


def inspect(folder: Path, key: SSlibKey | None = None) -> Inspection:
    """Look at all of a bundle; with a key, also for its signature."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as fault:
        return Inspection([f"{MANIFEST} cannot be read: {reason(fault)}"])
    faults, digests = _files(folder, manifest.files)
    try:
        plan, report = read_json(folder / PLAN), read_json(folder / REPORT)
        if identify(plan, report) != manifest.id:
            faults.append(f"{MANIFEST} has another id than {PLAN} and {REPORT} give")
        complete = digests.keys() == manifest.files.keys()
        if complete and _artifact_digest(digests) != report["artifact"]["digest"]:
            faults.append(f"the artifact is not the one that {REPORT} measured")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        return Inspection([*faults, f"{PLAN} or {REPORT} cannot be read: {reason(fault)}"])
    if not faults and not _is_written_as(folder / MANIFEST, {"id": manifest.id, "files": digests}):
        faults.append(_otherwise(MANIFEST))
    faults += _provenance_faults(folder, digests, manifest.id, key)
    return Inspection(faults, manifest.id, digests, plan, report)


def _files(folder: Path, listed: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """What is wrong with the files of a bundle, and the digests of those that are listed."""
    homes = {str(home) for name in listed for home in PurePosixPath(name).parents}
    found, faults, digests = dict(_walk(folder, homes)), [], dict[str, str]()
    for name in sorted({*found, *listed} - {MANIFEST}):
        if fault := _name_fault(name, found, listed, homes):
            faults.append(f"{name} {fault}")
            continue
        try:
            digests[name] = file_digest(folder / name, reading.BUNDLE_BYTES)
        except OSError as error:
            faults.append(f"{name} cannot be read: {reason(error)}")
            continue
        if digests[name] != listed[name]:
            faults.append(f"{name} was changed: its sha256 is {digests[name]}, not {listed[name]}")
    return faults, digests


def _walk(folder: Path, homes: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Everything in a bundle by relative POSIX path, and why it is no file; only `homes` are entered."""
    todo = [PurePosixPath()]
    while todo:
        home = todo.pop()
        try:
            entries = list(os.scandir(folder / home))
        except OSError as fault:
            yield str(home), f"cannot be read: {reason(fault)}"
            continue
        for entry in entries:
            name = str(home / entry.name)
            if not entry.is_dir(follow_symlinks=False):
                plain = entry.is_file(follow_symlinks=False)
                yield name, None if plain else "is a link or a device, not a file"
            elif name in homes:
                todo.append(home / entry.name)
            else:
                yield name, "is a folder, not a file"


def _name_fault(
    name: str, found: Mapping[str, str | None], listed: Mapping[str, str], homes: Collection[str]
) -> str | None:
    """Why there is nothing to take the digest of under a name."""
    if name not in listed and name not in homes:
        return f"is not in {MANIFEST}"
    if name not in listed:
        return found[name] or "is a file, not a folder"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"in {MANIFEST} leads out of the bundle"
    if name not in found:
        return "is missing"
    return found[name] or (None if is_known(name) else "is no file of a bundle")


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
        yield f"{PROVENANCE} cannot be read: {reason(fault)}"
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
        if not _is_written_as(folder / SIGNATURE, rewritten(value)):
            yield _otherwise(SIGNATURE)
    except (OSError, ValueError) as fault:
        yield f"{SIGNATURE} is not valid: {reason(fault)}"


def _is_written_as(file: Path, value: object) -> bool:
    """Whether a file is what we write for this value: no space, no key, no order is free."""
    try:
        return file.read_bytes() == encoded(value)
    except (OSError, ValueError):
        return False


def _otherwise(name: str) -> str:
    return f"{name} says what it should, but is written otherwise than yolodeploy writes it"


def reason(fault: Exception) -> str:
    """Why, without the class and the path of an exception."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return f"it lacks {fault}" if isinstance(fault, KeyError) else str(fault)
