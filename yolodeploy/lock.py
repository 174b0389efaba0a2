"""The lock file beside a recipe: what a build was made of and which bytes came out.

It is written by `deploy`, committed with the recipe, and holds nothing that differs from run to
run or from machine to machine.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.errors import EnvironmentProblem, LockMismatch, quotable
from yolodeploy.manifest import read_json
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from yolodeploy.plan import Plan

FORMAT = 1
_AGREE = "Restore what changed, or deploy without --locked and commit the new lock."
_WAVERS = (
    "The same inputs gave other bytes: this machine is of another kind than the one that wrote the lock, or a "
    "step is not reproducible. `yolodeploy reproduce` tells."
)
_MOST_DIFFERENCES = 20


def lock_path(recipe: Path) -> Path:
    """`recipes/ios.yaml` -> `recipes/ios.lock`."""
    return recipe.with_suffix(".lock")


def lock_of(plan: Plan) -> Path:
    """The lock file of a plan; PlanRefused where a link in its place leads out of the project."""
    path = lock_path(plan.file.path)
    plan.file.trust.require(path, plan.file.where(), "the lock file")
    return path


def require_replaceable(path: Path) -> None:
    """Refuse to write over what is there and is no lock file of ours, such as `uv.lock`."""
    if not os.path.lexists(path):
        return
    try:
        ours = "lock" in read_json(path, links=True)
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise EnvironmentProblem(
            f"{shown(path)}: deploy would write its lock file here, but this is something else. Rename the "
            "recipe, or remove the file if it may go."
        )


def describe_lock(
    plan: Plan, outputs: Mapping[str, str], bundle: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The lock of a plan; `outputs` are output digests by step id, as far as they are known.

    `bundle` are the digests of what an app reads beside the artifact (`contract.py`), by name.
    """
    return {
        "lock": FORMAT,
        "recipe": plan.file.recipe.name,
        "target": {"device": plan.target.device.name, "os": plan.target.os_version},
        "model": plan.weights_digest,
        "imgsz": plan.file.recipe.model.imgsz,
        "seed": plan.file.recipe.seed,
        "data": dict(plan.view_digests),
        "versions": plan.versions(),
        "steps": [
            {
                "name": planned.step.name,
                "params": planned.params.model_dump(mode="json"),
                "id": planned.id,
                "output": outputs.get(planned.id),
                **({"varies": reason} if (reason := planned.varies) else {}),
            }
            for planned in plan.steps
        ],
        **({} if bundle is None else {"bundle": dict(bundle)}),
    }


def read_lock(path: Path) -> dict[str, Any]:
    """Read a lock file; raises LockMismatch if it is missing or unreadable."""
    try:
        lock = read_json(path, links=True)
    except FileNotFoundError:
        raise LockMismatch(
            f"{shown(path)}: there is no lock file. Deploy once without --locked."
        ) from None
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) and fault.strerror else fault
        raise LockMismatch(
            f"{shown(path)}: cannot be read as a lock file: {why}. Restore it, or remove it and deploy without --locked."
        ) from None
    if lock.get("lock") != FORMAT or not _has_steps(lock):
        raise LockMismatch(
            f"{shown(path)}: not a lock file of format {FORMAT}. Deploy once without --locked."
        )
    return lock


def locked_outputs(path: Path) -> dict[str, str]:
    """Output digests by step id, as far as a lock file can be read and names them."""
    try:
        steps = read_lock(path)["steps"]
    except LockMismatch:
        return {}
    pairs = ((step.get("id"), step.get("output")) for step in steps)
    return {id_: out for id_, out in pairs if isinstance(id_, str) and isinstance(out, str) and out}


def _has_steps(lock: Mapping[str, Any]) -> bool:
    steps = lock.get("steps")
    return isinstance(steps, list) and all(isinstance(step, dict) for step in steps)


def require_complete(path: Path) -> None:
    """Refuse a lock that says nothing of what an app reads, before anything is built for it."""
    if "bundle" not in read_lock(path):
        raise LockMismatch(
            f"{shown(path)}: was written by an earlier yolodeploy and does not name `labels.txt` and "
            "`contract.json`. Deploy without --locked and commit the new lock."
        )


def require_locked(
    path: Path,
    plan: Plan,
    outputs: Mapping[str, str] | None = None,
    bundle: Mapping[str, str] | None = None,
) -> None:
    """Refuse a plan, or what it gave so far, that differs from the lock file; says what differs."""
    known = read_lock(path)
    current = describe_lock(plan, outputs or {}, bundle)
    if outputs is None:  # nothing has been built yet: compare what went in
        known = {**known, "steps": [{**step, "output": None} for step in known["steps"]]}
    known["bundle"] = known.get("bundle", {}) if bundle is not None else None
    lines = differences(known, current)
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        remedy = _WAVERS if any(".output: " in line for line in lines) else _AGREE
        raise LockMismatch(f"{shown(path)} does not describe this build:\n{listed}\n{remedy}")


def differences(known: Any, current: Any) -> list[str]:
    """What differs between two locks, a line each; of an id, which follows, only if nothing else does."""
    lines = list(_differences(known, current, ""))
    lines = [line for line in lines if ".id: " not in line] or lines
    lines = [quotable(line, 300) for line in lines]
    more = len(lines) - _MOST_DIFFERENCES
    return [*lines[:_MOST_DIFFERENCES], f"and {more} more"] if more > 0 else lines


def _differences(known: Any, current: Any, where: str) -> Iterator[str]:
    if isinstance(known, dict) and isinstance(current, dict):
        for key in sorted({*known, *current}):
            yield from _differences(known.get(key), current.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(known, list) and isinstance(current, list) and len(known) == len(current):
        for index, (old, new) in enumerate(zip(known, current, strict=True)):
            name = new.get("name", index) if isinstance(new, dict) else index
            yield from _differences(old, new, f"{where}.{name}")
    elif isinstance(known, list) and isinstance(current, list):
        yield f"{where}: locked {_names(known)}, now {_names(current)}"
    elif known != current:
        yield f"{where}: locked {_short(known)}, now {_short(current)}"


def _names(steps: Sequence[Any]) -> str:
    return " > ".join(_short(s.get("name") if isinstance(s, dict) else s) for s in steps[:20])


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str | int | float | None) else reprlib.repr(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def write_lock(path: Path, lock: Mapping[str, Any]) -> None:
    """Write a lock file by atomic replace; one that says the same already is left alone."""
    text = json.dumps(lock, indent=1, ensure_ascii=False) + "\n"
    try:
        if _holds(path, text.encode()):
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        try:
            with temporary.open("x", encoding="utf-8") as file:  # follows no link
                file.write(text)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as fault:
        raise EnvironmentProblem(
            f"{shown(path)}: the lock file cannot be written: {fault.strerror}"
        ) from None
