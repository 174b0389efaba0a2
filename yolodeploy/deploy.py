"""The main path: recipe -> plan -> artifacts -> evidence -> checks -> bundle -> lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.bundle import Contents, bundle_id, write_bundle
from yolodeploy.chain import obtain_chain
from yolodeploy.checks import Check, run_checks
from yolodeploy.console import Console
from yolodeploy.contract import app_files
from yolodeploy.digest import StatCache
from yolodeploy.errors import ChecksFailed, LockMismatch, StoreProblem
from yolodeploy.evidence import obtain_evidence
from yolodeploy.lock import (
    describe_lock,
    lock_of,
    locked_outputs,
    require_complete,
    require_locked,
    require_replaceable,
    write_lock,
)
from yolodeploy.objects import Stored
from yolodeploy.papers import signers
from yolodeploy.plan import Plan, make_plan
from yolodeploy.recipe import load_recipe
from yolodeploy.registry import load_registry
from yolodeploy.report import make_report
from yolodeploy.run import Runner
from yolodeploy.shared import shared_store
from yolodeploy.store import DIGESTS, Store
from yolodeploy.whole import inspect
from yolodeploy.yamlfile import shown

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


@dataclass(frozen=True)
class Options:
    """What the command line decides: where things go, whether the lock binds, and who signs."""

    dist: Path
    locked: bool
    signer: CryptoSigner | None = None


@dataclass(frozen=True)
class Deployed:
    """What a deployment ends with: the report, and the bundle's folder."""

    report: dict[str, Any]
    bundle: Path


def plan_file(recipe: Path, store: Store, allowed: Iterable[Path] = ()) -> Plan:
    """Read a recipe and plan it with the installed plugins; see `trust.py` for `allowed`."""
    cache = StatCache(store.root / DIGESTS)
    return make_plan(load_recipe(recipe, allowed), load_registry(), cache)


def runner(plan: Plan, store: Store, console: Console, url: str | None = None) -> Runner:
    """What runs a plan in a store; `url` names the shared store, None what the environment names."""
    locked = locked_outputs(lock_of(plan))
    return Runner(plan, store, console, shared_store(url, console, locked, store.root), locked)


def build(runner: Runner, *, locked: bool) -> Stored:
    """Make the artifact, without measuring it."""
    lock = lock_of(runner.plan)
    if locked:
        require_locked(lock, runner.plan)
    runner.store.hold(planned.id for planned in runner.plan.steps)
    _require_kept(runner, locked=locked)
    artifact = runner.final()
    if locked:
        require_locked(lock, runner.plan, _outputs(runner))
    return artifact


def deploy(runner: Runner, options: Options) -> Deployed:
    """Make, measure and check the artifact; write bundle and lock only if every check holds."""
    plan, store, lock = runner.plan, runner.store, lock_of(runner.plan)
    (require_complete if options.locked else require_replaceable)(lock)
    before = {planned.id for planned in plan.steps if store.peek(planned.id)}
    artifact = build(runner, locked=options.locked)
    evidence, stored = obtain_evidence(runner)
    chain = obtain_chain(runner, evidence, stored.path)
    checks = run_checks(plan.file.recipe.checks, evidence, chain, artifact.meta.bytes)
    metas = {planned.id: store.meta(planned.id) for planned in plan.steps}
    report = make_report(plan, artifact, evidence, chain, checks, metas, before)
    _require_passed(plan, checks, report)
    info, made = runner.info(), _outputs(runner)
    files = app_files(plan, info, evidence["interface"])
    read = {name: sha256(data).hexdigest() for name, data in files.items()}
    if options.locked:
        require_locked(lock, plan, made, read)
    home = options.dist / plan.file.recipe.name
    if not _is_kept(home, bundle_id(plan, report), read, options.signer, runner.console):
        contents = Contents(artifact, stored, report, made, files, info.task)
        write_bundle(options.dist, plan, contents, options.signer)
    if not options.locked:
        _warn_of_changed(runner, made)
        write_lock(lock, describe_lock(plan, made, read))
    return Deployed(report, home)


def _require_passed(plan: Plan, checks: Iterable[Check], report: dict[str, Any]) -> None:
    failed = [check for check in checks if not check.ok]
    if failed:
        lines = "".join(f"\n  {check.failure()}" for check in failed)
        raise ChecksFailed(f"{shown(plan.file.path)}: no bundle was written.{lines}", report)


def _warn_of_changed(runner: Runner, outputs: Mapping[str, str]) -> None:
    """A lock that names other bytes for the same inputs is rewritten, but never silently."""
    for planned in runner.plan.steps:
        before, now = runner.locked.get(planned.id), outputs[planned.id]
        if before not in (None, now) and not planned.varies:
            runner.console.warn(
                f"{shown(lock_of(runner.plan))} named {before[:12]} as the result of "
                f"`{planned.step.name}`, and names {now[:12]} from now on, though nothing that went in "
                "changed: the machine is of another kind, or the step is not reproducible. "
                "`yolodeploy reproduce` tells."
            )


def _is_kept(
    home: Path,
    id_: str,
    read: Mapping[str, str],
    signer: CryptoSigner | None,
    console: Console,
) -> bool:
    """Whether the bundle that is there may stay: whole, of this build, and with what an app reads.

    Nothing is signed that has not just come from the store.
    """
    found = inspect(home, signer.public_key if signer else None)
    if found.id == id_ and not found.faults and read.items() <= found.digests.items():
        return True
    if signer is None:
        return False
    own = signer.public_key.keyid
    if (others := signers(home)) and own not in others:
        told = ", ".join(key[:12] for key in others)
        console.warn(f"{shown(home)} was signed with the key {told}, and is now with {own[:12]}")
    return False


def _require_kept(runner: Runner, *, locked: bool) -> None:
    """Refuse to run a step again that would give other bytes than those locked, or built on."""
    steps, store = runner.plan.steps, runner.store
    for index, planned in enumerate(steps):
        if not planned.varies or runner.kept(index):
            continue
        what = f"{planned.at}: the result of `{planned.step.name}` is not in the store, and cannot be made again: {planned.varies}."
        if locked:
            lock = lock_of(runner.plan).name
            raise LockMismatch(
                f"{what} Use a store that has it (--cache, --store), or deploy without --locked and commit the new {lock}."
            )
        if any(store.peek(later.id) for later in steps[index + 1 :]):
            raise StoreProblem(
                f"{what} What was built on it is still there. Run `yolodeploy cache prune --all`, deploy "
                "again, and commit the new lock."
            )


def _outputs(runner: Runner) -> dict[str, str]:
    """Output digests by step id, verified; a result that the store has lost is made again."""
    return {
        planned.id: runner.result(index).meta.digest
        for index, planned in enumerate(runner.plan.steps)
    }
