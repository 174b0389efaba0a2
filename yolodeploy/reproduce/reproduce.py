"""Rebuilds a recipe under other conditions, and compares every step with its lock.

docs/decisions/019-reproduce.md says what is changed and what cannot be.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.backend import Artifact
from yolodeploy.errors import ChecksFailed, NotReproduced, StepFailed, YolodeployError
from yolodeploy.execution import failing_as
from yolodeploy.planning import LockFile, Plan, PlannedStep
from yolodeploy.reproduce.artifact_diff import differing
from yolodeploy.reproduce.relocate import relocate
from yolodeploy.reproduce.variations import Variations
from yolodeploy.store import Store, damage
from yolodeploy.system import Console, cpu_name, shown


@dataclass(frozen=True)
class Rebuild:
    """A plan to rebuild: its lock, the user's store, and the store that it is rebuilt into.

    `locked` are output digests by step id.
    """

    plan: Plan
    lock: Path
    locked: Mapping[str, str]
    ours: Store
    theirs: Store

    def differs(self, planned: PlannedStep) -> bool:
        """Whether a step gave other bytes than the locked ones, or none."""
        meta = self.theirs.meta(planned.id)
        return meta is None or meta.digest != self.locked[planned.id]


def reproduce(
    plan: Plan, ours: Store, theirs: Store, variations: Variations, console: Console
) -> None:
    """Rebuild a plan under other conditions, into `theirs`, and compare every step with its lock.

    Raises LockMismatch if the lock is missing or not of this plan, the error of the rebuild, and NotReproduced
    for the first step whose bytes are not the locked ones.
    """
    lock = LockFile.beside(plan)
    lock.require_inputs(plan)
    for planned in plan.steps:
        if planned.varies:
            raise NotReproduced(
                f"{planned.at}: `{planned.step.name}` gives other bytes every time: {planned.varies}. Keep "
                "its result in a store, or train on the CPU."
            )
    locked = {step["id"]: str(step.get("output")) for step in lock.required().steps}
    rebuild = Rebuild(plan, lock.path, locked, ours, theirs)
    _build(rebuild, variations, console)
    _compare(rebuild)


def _build(rebuild: Rebuild, variations: Variations, console: Console) -> None:
    """Run `build` on a copy of the recipe and all its inputs; raises its error."""
    name = rebuild.plan.file.recipe.name
    folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=variations.home / "work")) / "project"
    recipe = relocate(rebuild.plan, folder)
    quiet = ["-q"] if console.level < 0 else []
    trust = ["--trust-weights"] if rebuild.plan.steps[0].step.executes else []
    options = ["--json", *quiet, *trust, "--cache", str(rebuild.theirs.root)]
    command = ["build", str(recipe), *options]
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if not line.startswith("error: "):
            console.info(f"{name}: {line}")

    code, output = variations.run(command, on_line)
    if code:
        raise _failure(rebuild, code, output, lines)


def _failure(rebuild: Rebuild, code: int, output: str, lines: Sequence[str]) -> YolodeployError:
    try:
        message = str(json.loads(output)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = lines[-1] if lines else "it printed no message"
    known: tuple[type[YolodeployError], ...] = (YolodeployError, *YolodeployError.__subclasses__())
    kinds = {kind.exit_code: kind for kind in known}
    kinds[ChecksFailed.exit_code] = StepFailed  # `build` checks nothing: a signal under faketime
    recipe, message = shown(rebuild.plan.file.path), _keep_logs(rebuild, message)
    text = f"{recipe}: rebuilt under other conditions, it ended with code {code}: {message}"
    return kinds.get(code, StepFailed)(text)


def _keep_logs(rebuild: Rebuild, message: str) -> str:
    """Move logs to the user's store, because their folder is removed; returns the message with the new paths."""
    for log in sorted((rebuild.theirs.root / "logs").glob("*.log")):
        kept = rebuild.ours.root / "logs" / log.name
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(log, kept)
            message = message.replace(str(log), str(kept.absolute()))
    return message


def _compare(rebuild: Rebuild) -> None:
    """Raise NotReproduced for the first step whose bytes are not the locked ones."""
    changed = [planned for planned in rebuild.plan.steps if rebuild.differs(planned)]
    if not changed:
        return
    first, *later = changed
    name, meta = first.step.name, rebuild.theirs.meta(first.id)
    if meta is None:
        raise NotReproduced(
            f"{first.at}: under other conditions `{name}` was planned with another id than {first.id[:12]}: its "
            "plugin reads the environment while planning."
        )
    locked = rebuild.locked[first.id]
    lines = [
        (
            f"{first.at}: `{name}` gives other bytes than {shown(rebuild.lock)} names: sha256 {meta.digest[:16]}..., "
            f"locked {locked[:16]}..."
        ),
        *_details(rebuild, first, locked, meta.digest),
    ]
    if later:
        lines.append(f"After it, {', '.join(f'`{step.step.name}`' for step in later)} differ too.")
    if first.data:
        lines.append(
            f"`{name}` computes with images, and sums round differently on another kind of CPU; this is "
            f"{cpu_name()}."
        )
    raise NotReproduced("\n  ".join(lines))


def _details(rebuild: Rebuild, planned: PlannedStep, locked: str, built: str) -> list[str]:
    """What differs, as far as the stores can tell."""
    home, meta = _home(rebuild.ours, planned), rebuild.ours.meta(planned.id)
    if meta is None or damage(home, meta):
        return [
            (
                f"The store {shown(rebuild.ours.root)} has no such result, so only digests can be compared. Build "
                "here, or name a store that has it with --cache."
            )
        ]
    if meta.digest == built:
        return [
            (
                "The store has the bytes that were built now: this machine agrees with itself, and the lock was "
                "written where something that no lock records was different."
            )
        ]
    before = Artifact(meta.format, home / "data", meta.digest)
    after = Artifact(meta.format, _home(rebuild.theirs, planned) / "data", built)
    with failing_as(planned.at, f"comparing the results of `{planned.step.name}`"):
        lines = differing(planned.backend, before, after)
    whose = "the locked result" if meta.digest == locked else "what the store has"
    return [f"Compared with {whose}:", *(f"  {line}" for line in lines)]


def _home(store: Store, planned: PlannedStep) -> Path:
    return store.root / "objects" / planned.id[:2] / planned.id
