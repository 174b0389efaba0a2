"""The command `reproduce`: build recipes again elsewhere, and compare with their locks.

The main path is `reproduce`. docs/decisions/019-reproduce.md says what "elsewhere" changes and what
it cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact
from yolodeploy.commands import store_of
from yolodeploy.console import Console, answer
from yolodeploy.deploy import plan_file
from yolodeploy.elsewhere import Elsewhere, elsewhere
from yolodeploy.errors import (
    ChecksFailed,
    EnvironmentProblem,
    NotReproduced,
    StepFailed,
    YolodeployError,
)
from yolodeploy.failing import failing_as
from yolodeploy.lock import lock_of, read_lock, require_locked
from yolodeploy.machine import cpu_name
from yolodeploy.objects import fault
from yolodeploy.parts import differing
from yolodeploy.plan import Plan, PlannedStep
from yolodeploy.resettle import resettle
from yolodeploy.store import Store
from yolodeploy.yamlfile import shown


@dataclass(frozen=True)
class Job:
    """A recipe to build again: its plan, the output digests of its lock, and where results may be."""

    plan: Plan
    outputs: Mapping[str, str]
    ours: Store
    theirs: Store

    @property
    def lock(self) -> str:
        """The lock file, as messages show it."""
        return shown(lock_of(self.plan))


def reproduce(options: argparse.Namespace, console: Console) -> int:
    """Build every recipe elsewhere; the exit code is the first fault's.

    The recipes share one store that is empty at first, so that common steps run once.
    """
    store, rows, code = store_of(options), [], 0
    with _folder(options.keep) as home:
        place = elsewhere(home)
        for recipe in options.recipes:
            start = time.monotonic()
            row: dict[str, Any] = {"recipe": str(recipe), "ok": True, "steps": 0}
            try:
                job = _prepare(recipe, options.allow, store, Store(home / "store"))
                row["steps"] = len(job.plan.steps)
                _build(job, place, console)
                _compare(job)
            except YolodeployError as reason:
                row.update(ok=False, error=str(reason), exit_code=reason.exit_code)
                code = code or reason.exit_code
                console.error(str(reason))
            row["seconds"] = round(time.monotonic() - start, 1)
            rows.append(row)
    answer(console, options, {"elsewhere": place.described(), "recipes": rows}, _table(rows))
    return code


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A new folder: the one to keep, or one that is removed in the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="yolodeploy-reproduce-") as folder:
            yield Path(folder).resolve()
        return
    try:
        keep.mkdir(parents=True)
    except OSError as reason:
        raise EnvironmentProblem(
            f"--keep {keep}: {reason.strerror}. Name a folder that does not exist yet."
        ) from None
    yield keep.resolve()


def _prepare(recipe: Path, allow: Sequence[Path], ours: Store, theirs: Store) -> Job:
    """Plan a recipe; raises LockMismatch if its lock is missing or does not describe this plan."""
    plan = plan_file(recipe, ours, allow)
    lock = lock_of(plan)
    require_locked(lock, plan)
    for planned in plan.steps:
        if planned.varies:
            raise NotReproduced(
                f"{planned.at}: `{planned.step.name}` gives other bytes every time: {planned.varies}. Keep "
                "its result in a store, or train on the CPU."
            )
    outputs = {step["id"]: str(step.get("output")) for step in read_lock(lock)["steps"]}
    return Job(plan, outputs, ours, theirs)


def _build(job: Job, place: Elsewhere, console: Console) -> None:
    """Run `build` on a copy of the recipe and all its inputs; raises what it ended with."""
    name = job.plan.file.recipe.name
    folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=place.home / "work")) / "project"
    recipe = resettle(job.plan, folder)
    quiet = ["-q"] if console.level < 0 else []
    command = ["build", str(recipe), "--json", *quiet, "--cache", str(job.theirs.root)]
    lines: list[str] = []

    def said(line: str) -> None:
        lines.append(line)
        if not line.startswith("error: "):
            console.info(f"{name}: {line}")

    code, printed = place.run(command, said)
    if code:
        raise _failure(job, code, printed, lines)


def _logs_kept(job: Job, message: str) -> str:
    """Move logs of the build to our store, for the folder goes; the message with their new places."""
    for log in sorted((job.theirs.root / "logs").glob("*.log")):
        kept = job.ours.root / "logs" / log.name
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(log, kept)
            message = message.replace(str(log), str(kept.absolute()))
    return message


def _failure(job: Job, code: int, printed: str, lines: Sequence[str]) -> YolodeployError:
    where = shown(job.plan.file.path)
    try:
        message = str(json.loads(printed)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = lines[-1] if lines else "it said nothing"
    known: tuple[type[YolodeployError], ...] = (YolodeployError, *YolodeployError.__subclasses__())
    kinds = {kind.exit_code: kind for kind in known}
    kinds[ChecksFailed.exit_code] = StepFailed  # `build` checks nothing: faketime's, of a signal
    kind = kinds.get(code, StepFailed)
    text = f"{where}: built elsewhere, it ended with code {code}: {_logs_kept(job, message)}"
    return kind(text)


def _compare(job: Job) -> None:
    """Raise NotReproduced for the first step whose bytes are not the locked ones."""
    for number, planned in enumerate(job.plan.steps):
        meta = job.theirs.meta(planned.id)
        if meta is None:
            raise NotReproduced(
                f"{planned.at}: elsewhere `{planned.step.name}` was planned under another id than "
                f"{planned.id[:12]}: its plugin looks at the environment when it plans."
            )
        if meta.digest != job.outputs[planned.id]:
            later = [step.step.name for step in job.plan.steps[number + 1 :] if _changed(job, step)]
            raise NotReproduced(_difference(job, planned, meta.digest, later))


def _changed(job: Job, planned: PlannedStep) -> bool:
    meta = job.theirs.meta(planned.id)
    return meta is None or meta.digest != job.outputs[planned.id]


def _difference(job: Job, planned: PlannedStep, digest: str, later: Sequence[str]) -> str:
    """What differs, as far as can be told, and why that may be."""
    name, locked = planned.step.name, job.outputs[planned.id]
    text = [
        (
            f"{planned.at}: `{name}` gives other bytes than {job.lock} names: sha256 {digest[:16]}..., "
            f"locked {locked[:16]}..."
        ),
        *(f"  {line}" for line in _details(job, planned, locked, digest)),
    ]
    if later:
        text.append(f"  After it, {', '.join(f'`{step}`' for step in later)} differ too.")
    if planned.step.needs(planned.params):
        text.append(
            f"  `{name}` computes with images, and its sums round differently on another kind of CPU; "
            f"this is {cpu_name()}."
        )
    return "\n".join(text)


def _details(job: Job, planned: PlannedStep, locked: str, digest: str) -> list[str]:
    home, meta = job.ours.root / "objects" / planned.id[:2] / planned.id, job.ours.meta(planned.id)
    if meta is None or fault(home, meta):
        return [
            (
                f"The store {shown(job.ours.root)} has no such result, so only digests can be compared. "
                "Build here, or name a store that has it with --cache."
            )
        ]
    if meta.digest == digest:
        return [
            (
                "The store has the same bytes as were built now: this machine agrees with itself, and the "
                "lock was written where something that no lock records was different."
            )
        ]
    before = Artifact(meta.format, home / "data", meta.digest)
    after = Artifact(meta.format, _data(job.theirs, planned), digest)
    with failing_as(planned.at, f"taking the result of `{planned.step.name}` apart"):
        lines = differing(planned.backend, before, after)
    whose = "the locked result" if meta.digest == locked else "what the store has"
    return [f"Compared with {whose}:", *(f"  {line}" for line in lines)]


def _data(store: Store, planned: PlannedStep) -> Path:
    return store.root / "objects" / planned.id[:2] / planned.id / "data"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    width = max(len(Path(row["recipe"]).stem) for row in rows)
    lines = [f"{'recipe':<{width}}  steps  seconds"]
    for row in rows:
        result = "ok" if row["ok"] else "NOT REPRODUCED" if row["exit_code"] == 11 else "FAILED"
        name = Path(row["recipe"]).stem
        lines.append(f"{name:<{width}}  {row['steps']:>5}  {row['seconds']:>7.1f}  {result}")
    good = sum(row["ok"] for row in rows)
    lines.append(f"{good} of {len(rows)} reproduced byte for byte")
    return "\n".join(lines)
