"""The story: recipe -> plan -> artifact -> evidence -> checks -> bundle -> lock.

recipes/ios.yaml --prepare--> Plan --Runner--> results in the store
                                                   |
dist/ios/ <--place_bundle-- Checks <--run_checks-- Evidence <--obtain_evidence
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import RESERVED
from yolodeploy.bundle import Contents, app_digests, app_files, place_bundle
from yolodeploy.errors import ChecksFailed, LockMismatch, PlanRefused, StoreProblem, Undecided
from yolodeploy.execution import Runner
from yolodeploy.hosts import LOCAL, Host
from yolodeploy.measure import (
    Check,
    Evidence,
    Row,
    Verdict,
    obtain_breakdown,
    obtain_evidence,
    require_device,
    run_checks,
)
from yolodeploy.planning import LockFile, Plan, Planner, label_warnings, lock_of, require_gpu
from yolodeploy.report import make_report
from yolodeploy.store import Store, Stored
from yolodeploy.store.remote import shared_store
from yolodeploy.system import Console, shown

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from yolodeploy.bundle import EvidenceSet
    from yolodeploy.tasks import Pictures


@dataclass(frozen=True)
class Request:
    """What the command line or the Python API asks for.

    `allowed` are files and folders outside the project that the recipe may read, `shared` is the address of
    a team's store (None: the one that the environment names), `locked` makes the lock binding.
    `accept_undecided` ships an artifact even if noise could turn the verdict of a check over. `trusted` lets the
    loader that the recipe names execute the weights. `host` is where the artifact is measured. `planned` are the ids of the steps
    that the caller was shown (empty: it has seen none); if the recipe would do something else now, it is refused. `images` puts pictures into the bundle: evaluation images, small,
    with what was found in them.
    """

    recipe: Path
    allowed: Iterable[Path] = ()
    shared: str | None = None
    locked: bool = False
    dist: Path = Path("dist")
    signer: CryptoSigner | None = None
    accept_undecided: bool = False
    trusted: bool = False
    host: Host = LOCAL
    planned: tuple[str, ...] = ()
    images: bool = True


@dataclass(frozen=True)
class Ready:
    """A planned recipe and its lock. What can be refused before anything runs was not."""

    request: Request
    runner: Runner
    lock: LockFile
    warn: Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What was measured."""

    evidence: Evidence
    breakdown: Sequence[Row]


@dataclass(frozen=True)
class Deployed:
    """The result of a deployment: the report, and the bundle's folder."""

    report: dict[str, Any]
    bundle: Path


def deploy(request: Request, store: Store, console: Console) -> Deployed:
    """Make, measure and check the artifact; write bundle and lock only if every check passes."""
    with Planner.of_store(store.root, request.allowed, trusted=request.trusted) as planner:
        ready = prepare(request, store, console, planner, bundles=True)
    make_artifact(ready)
    return ship(ready, measure(ready))


def build(request: Request, store: Store, console: Console) -> Stored:
    """Make the artifact without measuring it."""
    with Planner.of_store(store.root, request.allowed, trusted=request.trusted) as planner:
        return make_artifact(prepare(request, store, console, planner, bundles=False))


def prepare(
    request: Request, store: Store, console: Console, planner: Planner, *, bundles: bool
) -> Ready:
    """Plan the recipe, read its lock, and refuse what contradicts it; `bundles` says that a bundle is wanted."""
    plan = planner.plan(request.recipe)
    _require_as_planned(plan, request.planned)
    for warning in [*label_warnings(plan), *plan.warnings]:
        console.warn(warning)
    lock = LockFile.beside(plan)
    shared = shared_store(request.shared, console, lock.outputs, store.root, RESERVED)
    runner = Runner(plan, store, console, shared, lock.outputs)
    if bundles and request.locked:
        lock.require_complete()
    elif bundles:
        lock.require_replaceable()
    if bundles:
        require_device(plan, request.host)
        if not request.host.name:
            require_gpu(plan)
    if request.locked:
        lock.require_inputs(plan)
    store.hold(planned.id for planned in (*plan.steps, *plan.floats.values()))
    _refuse_other_bytes(runner, lock, locked=request.locked)
    return Ready(request, runner, lock, console.warn)


def make_artifact(ready: Ready) -> Stored:
    """The artifact that ships, reused or made."""
    runner, lock = ready.runner, ready.lock
    artifact = runner.final()
    if ready.request.locked:
        lock.require_outputs(lock_of(runner.plan, runner.outputs()))
    return artifact


def measure(ready: Ready) -> Found:
    """What the artifact loses and costs, reused or measured."""
    host = ready.request.host
    evidence = obtain_evidence(ready.runner, host)
    return Found(evidence, obtain_breakdown(ready.runner, host, evidence))


def ship(ready: Ready, found: Found) -> Deployed:
    """Check what was measured; write bundle and lock only if every check passes."""
    request, runner, evidence = ready.request, ready.runner, found.evidence
    checks = run_checks(runner.plan.file.recipe.checks, evidence, found.breakdown)
    report = make_report(runner, evidence, found.breakdown, checks)
    if not request.accept_undecided:
        forget_doubtful(runner, evidence, checks)
    _require_passed(runner, checks, report)
    if not request.accept_undecided:
        _require_decided(runner, checks, report)
    for check in checks:
        if check.doubt:
            ready.warn(f"{check.name}: {check.in_doubt()}")
    contents = _contents(runner, evidence, report, images=request.images)
    built = lock_of(runner.plan, contents.outputs, app_digests(contents.app_files))
    if request.locked:
        ready.lock.require_outputs(built)
    bundle = place_bundle(request.dist, contents, request.signer, ready.warn)
    if not request.locked:
        ready.lock.replace(built, ready.warn)
    return Deployed(report, bundle)


def _require_as_planned(plan: Plan, planned: tuple[str, ...]) -> None:
    """Refuse a recipe that would do something else than its caller was shown."""
    ids = tuple(step.id for step in plan.steps)
    if not planned or ids == planned:
        return
    pairs = zip_longest(plan.steps, planned)
    step = next((step for step, id_ in pairs if step and step.id != id_), plan.final)
    raise PlanRefused(
        f"{shown(plan.file.path)}: is not what was planned: `{step.step.name}` has another id now, so the recipe, its inputs or "
        "its tools were changed in between. Plan it again."
    )


def _refuse_other_bytes(runner: Runner, lock: LockFile, *, locked: bool) -> None:
    """Refuse to repeat a step that would give other bytes than those that are locked or already built on."""
    steps = runner.plan.steps
    for index, planned in enumerate(steps):
        if not planned.varies or runner.has(index):
            continue
        problem = (
            f"{planned.at}: the result of `{planned.step.name}` is not in the store and cannot be made again: "
            f"{planned.varies}."
        )
        if locked:
            raise LockMismatch(
                f"{problem} Use a store that has it (--cache, --store), or deploy without --locked and commit "
                f"the new {lock.path.name}."
            )
        if any(runner.store.peek(later.id) for later in steps[index + 1 :]):
            raise StoreProblem(
                f"{problem} Later results that were built on it are still there. Run `yolodeploy cache prune "
                "--all`, deploy again, and commit the new lock."
            )


def _require_passed(runner: Runner, checks: Iterable[Check], report: dict[str, Any]) -> None:
    checks = [check for check in checks if not check.ok]
    if any(check.verdict == Verdict.FAILED for check in checks):
        raise ChecksFailed(_not_passed(runner, checks), report)


def forget_doubtful(runner: Runner, evidence: Evidence, checks: Iterable[Check]) -> None:
    """Remove latencies that decide nothing from the store, so that the next run measures them again."""
    if any(check.timed and check.verdict == Verdict.UNDECIDED for check in checks):
        runner.store.remove(evidence.timings.folder.parent)


def _require_decided(runner: Runner, checks: Iterable[Check], report: dict[str, Any]) -> None:
    undecided = [check for check in checks if check.verdict == Verdict.UNDECIDED]
    if not undecided:
        return
    remedy = "To ship it all the same, add: --undecided=accept"
    raise Undecided(f"{_not_passed(runner, undecided)}\n{remedy}", report)


def _not_passed(runner: Runner, checks: Iterable[Check]) -> str:
    lines = "".join(f"\n  {check.failure()}" for check in checks)
    return f"{shown(runner.plan.file.path)}: no bundle was written.{lines}"


def _contents(
    runner: Runner, evidence: Evidence, report: dict[str, Any], *, images: bool
) -> Contents:
    """What goes into the bundle."""
    info = runner.info()
    return Contents(
        plan=runner.plan,
        artifact=runner.final(),
        outputs=runner.outputs(),
        app_files=app_files(runner.plan, info, evidence.interface, evidence.layout),
        golden=evidence.folder / "golden",
        pictures=evidence.pictures if images else None,
        report=report,
        page=partial(_page, report),
        task=info.task,
    )


def _page(report: Mapping[str, Any], sets: Sequence[EvidenceSet], pictures: Pictures | None) -> str:
    from yolodeploy.report import (
        report_page,
    )  # late: an unchanged bundle's page is not written again

    return report_page(report, sets, pictures)
