"""Whether a bundle is intact: every file as the manifest lists it, all documents of one build, as a lock names it.

`verify` asks this, and so does `deploy` before it leaves a bundle alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import (
    APP_FILES,
    CONTRACT,
    MANIFEST,
    PICTURES,
    PLAN,
    PROVENANCE,
    REPORT,
    SIGNATURE,
)
from yolodeploy.bundle.attest import (
    canonical_envelope,
    payload_of,
    require_signature,
    statement_problems,
)
from yolodeploy.bundle.manifest import identify, is_artifact, is_known, read_manifest, set_names
from yolodeploy.planning import Lock, differences
from yolodeploy.system import BUNDLE_BYTES, digest_of, encoded, file_digest, read_json
from yolodeploy.tasks import golden_file, read_pictures

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from yolodeploy.bundle.evidence_sets import EvidenceSet

_STEP_KEYS = ("name", "params", "id")
_OTHER_FORM = "has the right content, but is not written as yolodeploy writes it"


@dataclass(frozen=True)
class Inspection:
    """What an inspection found: all problems, one sentence each, and what could be read; `sets` are those of evidence."""

    problems: Sequence[str]
    id: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    sets: Sequence[EvidenceSet] = ()


def inspect_bundle(folder: Path, key: SSlibKey | None = None) -> Inspection:
    """Inspect a bundle; with a key, it must be signed with that key."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as error:
        return Inspection([f"{MANIFEST} cannot be read: {_reason(error)}"])
    problems, digests = _files(folder, manifest.files)
    try:
        plan, report = read_json(folder / PLAN), read_json(folder / REPORT)
        if identify(plan, report) != manifest.id:
            problems.append(f"{MANIFEST} does not have the id of {PLAN} and {REPORT}")
        artifact = {name: digest for name, digest in digests.items() if is_artifact(name)}
        complete = digests.keys() == manifest.files.keys()
        if complete and digest_of(artifact) != report["artifact"]["digest"]:
            problems.append(f"the artifact is not the one that {REPORT} measured")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Inspection([*problems, f"{PLAN} or {REPORT} cannot be read: {_reason(error)}"])
    sets, wrong = _sets(folder, digests, plan, report)
    problems += wrong
    if not problems:
        problems += _golden_problems(folder)
    if not problems and PICTURES in digests:
        problems += _picture_problems(folder, report)
    if not problems and not _is_written_as(
        folder / MANIFEST, {"id": manifest.id, "files": digests}
    ):
        problems.append(f"{MANIFEST} {_OTHER_FORM}")
    problems += _provenance_problems(folder, digests, manifest.id, key)
    return Inspection(problems, manifest.id, digests, plan, report, sets)


def _sets(
    folder: Path, digests: Mapping[str, str], plan: Mapping[str, Any], report: Mapping[str, Any]
) -> tuple[Sequence[EvidenceSet], Sequence[str]]:
    """The sets of evidence and problems with them. Few bundles have some, and reading them takes a library."""
    if not set_names(digests):
        return (), ()
    from yolodeploy.bundle.evidence_sets import read_sets

    target, artifact = plan.get("target"), report.get("artifact")
    device = target.get("device") if isinstance(target, dict) else None
    digest = artifact.get("digest") if isinstance(artifact, dict) else None
    return read_sets(folder, digests, digest, device)


def artifact_files(found: Inspection) -> list[str]:
    """The artifact's files of an intact bundle, by relative POSIX path."""
    return [name for name in found.digests if is_artifact(name)]


def _files(folder: Path, listed: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Problems with the files of a bundle, and the digests of those that are listed."""
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    found, problems, digests = dict(_walk(folder, folders)), [], dict[str, str]()
    for name in sorted({*found, *listed} - {MANIFEST}):
        if problem := _name_problem(name, found, listed, folders):
            problems.append(f"{name} {problem}")
            continue
        try:
            digests[name] = file_digest(folder / name, BUNDLE_BYTES)
        except OSError as error:
            problems.append(f"{name} cannot be read: {_reason(error)}")
            continue
        if digests[name] != listed[name]:
            problems.append(
                f"{name} was changed: its sha256 is {digests[name]}, not {listed[name]}"
            )
    return problems, digests


def _walk(folder: Path, folders: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Everything in a bundle by relative POSIX path, and why it is not a file; only `folders` are entered."""
    todo = [PurePosixPath()]
    while todo:
        inner = todo.pop()
        try:
            entries = list(os.scandir(folder / inner))
        except OSError as error:
            yield str(inner), f"cannot be read: {_reason(error)}"
            continue
        for entry in entries:
            name = str(inner / entry.name)
            if not entry.is_dir(follow_symlinks=False):
                plain = entry.is_file(follow_symlinks=False)
                yield name, None if plain else "is a link or a device, not a file"
            elif name in folders:
                todo.append(inner / entry.name)
            else:
                yield name, "is a folder, not a file"


def _name_problem(
    name: str, found: Mapping[str, str | None], listed: Mapping[str, str], folders: Collection[str]
) -> str | None:
    """Why a name has no digest; None if it has."""
    if name not in listed and name not in folders:
        return f"is not in {MANIFEST}"
    if name not in listed:
        return found[name] or "is a file, not a folder"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"in {MANIFEST} leads out of the bundle"
    if name not in found:
        return "is missing"
    return found[name] or (None if is_known(name) else "is not a file of a bundle")


def _provenance_problems(
    folder: Path, digests: Mapping[str, str], id_: str, key: SSlibKey | None
) -> Iterator[str]:
    """Problems with the provenance and its signature."""
    try:
        yield from statement_problems(read_json(folder / PROVENANCE), digests, id_)
        text = (folder / PROVENANCE).read_bytes()
    except (OSError, ValueError) as error:
        yield f"{PROVENANCE} cannot be read: {_reason(error)}"
        return
    if SIGNATURE in digests:
        yield from _signature_problems(folder, text, key)
    elif key is not None:
        yield f"{SIGNATURE} is missing: the bundle is not signed"


def _signature_problems(folder: Path, text: bytes, key: SSlibKey | None) -> Iterator[str]:
    try:
        value = read_json(folder / SIGNATURE)
        if payload_of(value) != text:
            yield f"{SIGNATURE} signs another text than {PROVENANCE}"
        if key is not None:
            require_signature(value, key)
        if not _is_written_as(folder / SIGNATURE, canonical_envelope(value)):
            yield f"{SIGNATURE} {_OTHER_FORM}"
    except (OSError, ValueError) as error:
        yield f"{SIGNATURE} is not valid: {_reason(error)}"


def _golden_problems(folder: Path) -> Iterator[str]:
    """Whether the golden vectors follow the rules that the contract tells an app; earlier releases say fewer of them."""
    file = "the golden results"
    try:
        contract = read_json(folder / CONTRACT)
        file = golden_file(contract.get("task", ""))
        golden = read_json(folder / file)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield f"{CONTRACT} or {file} cannot be read: {_reason(error)}"
        return
    told = contract.get("postprocess")
    layout = told.get("layout") if isinstance(told, dict) else None
    if contract.get("thresholds") != golden.get("rules"):
        yield f"{file} follows other thresholds than {CONTRACT}"
    elif layout != "detections" and layout != golden.get("layout"):
        yield f"{file} is of another output than {CONTRACT}"


def _picture_problems(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    """Whether the pictures can be shown, and are of the task that was measured."""
    try:
        pictures = read_pictures(folder / PICTURES)
    except (OSError, ValueError) as error:
        yield f"{PICTURES} cannot be read: {_reason(error)}"
        return
    model = report.get("model")
    task = model.get("task") if isinstance(model, dict) else None
    if pictures.task != task:
        yield f"{PICTURES} is of the task {pictures.task}, and {REPORT} of {task}"


def _is_written_as(file: Path, value: object) -> bool:
    """Whether a file is exactly what we write for this value."""
    try:
        return file.read_bytes() == encoded(value)
    except (OSError, ValueError):
        return False


def lock_problems(found: Inspection, lock: Lock) -> Iterator[str]:
    """How a bundle differs from a lock, one sentence each; nothing if the bundle cannot be read."""
    if found.id is None:
        return
    try:
        yield from (f"lock: {line}" for line in differences(_locked(lock), _built(found)))
        output = lock.steps[-1].get("output") if lock.steps else None
        digest = found.report["artifact"]["digest"]
        if output != digest:
            yield f"lock: the artifact should be {output}, but is {digest}"
    except (KeyError, TypeError, AttributeError) as error:
        yield f"lock: {PLAN} cannot be compared with it: {_reason(error)}"


def _built(found: Inspection) -> dict[str, Any]:
    """What a bundle says of what a lock names."""
    plan = found.plan
    backends = {plan["target"]["backend"], *(step["backend"] for step in plan["steps"])}
    return {
        "recipe": found.report["name"],
        "target": {key: value for key, value in plan["target"].items() if key != "backend"},
        "model": plan["weights"],
        "imgsz": plan["recipe"]["model"]["imgsz"],
        "seed": plan["recipe"]["seed"],
        "data": plan["data"],
        "versions": plan["versions"],
        "backends": ", ".join(sorted(backends)),
        "steps": [{key: step[key] for key in _STEP_KEYS} for step in plan["steps"]],
        "bundle": {name: found.digests.get(name) for name in APP_FILES},
    }


def _locked(lock: Lock) -> dict[str, Any]:
    """The same from a lock, which names the backends only with their versions."""
    plain = lock.plain()
    return {
        **{key: plain[key] for key in plain if key not in ("lock", "steps", "bundle")},
        "backends": ", ".join(sorted(lock.versions)),
        "steps": [{key: step.get(key) for key in _STEP_KEYS} for step in lock.steps],
        "bundle": lock.bundle or {},
    }


def _reason(error: Exception) -> str:
    """The reason in an exception, without its class and path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
