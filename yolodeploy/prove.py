"""The other story: an artifact that was built -> evidence from somewhere -> a set in its bundle. Nothing is built here.

recipes/ios.yaml --plan--> the artifact in dist/ios/ or the store --obtain_evidence--> dist/ios/evidence/<host>.json
dist/ios/ alone --check_golden--> the same, of what can be measured without images
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import MANIFEST, RESERVED
from yolodeploy.bundle import (
    Inspection,
    add_evidence,
    artifact_files,
    lock_problems,
    plan_digest,
    require_intact,
    require_key,
)
from yolodeploy.deployment import Request, forget_doubtful
from yolodeploy.errors import (
    ChecksFailed,
    LockMismatch,
    StoreProblem,
    Undecided,
    VerificationFailed,
)
from yolodeploy.execution import Runner
from yolodeploy.hosts import Host
from yolodeploy.measure import (
    Check,
    Evidence,
    Verdict,
    check_golden,
    obtain_evidence,
    require_device,
    run_checks,
)
from yolodeploy.planning import LockFile, label_warnings, plan_recipe
from yolodeploy.report import make_report, report_page
from yolodeploy.store import Entry, Store
from yolodeploy.store.remote import shared_store
from yolodeploy.system import Console, shown
from yolodeploy.tasks import plain_measures

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

_STEP_DROP = "the drops of single steps, which only deploy measures"
_NEED_IMAGES = "accuracy and the checks of the recipe: they need the recipe and its images (yolodeploy measure RECIPE)"
_NEED_EXPORT = "ratios of latencies: the fp32 export that they compare with is not in the bundle"


@dataclass(frozen=True)
class Proved:
    """The set of evidence as plain data, its file in the bundle (None: there is no bundle), and the report of a recipe."""

    value: Mapping[str, Any]
    file: Path | None
    report: Mapping[str, Any] | None = None


def prove_recipe(request: Request, store: Store, console: Console) -> Proved:
    """Measure the artifact of a recipe, of its bundle or of the store, where the request says; keep that in the bundle.

    Raises ChecksFailed if a check of the recipe does not pass there, with the evidence kept all the same.
    """
    plan = plan_recipe(request.recipe, store.root, request.allowed, trusted=request.trusted)
    for warning in [*label_warnings(plan), *plan.warnings]:
        console.warn(warning)
    lock = LockFile.beside(plan)
    shared = shared_store(request.shared, console, lock.outputs, store.root, RESERVED)
    runner = Runner(plan, store, console, shared, lock.outputs, builds=False)
    require_device(plan, request.host)
    home = request.dist / plan.file.recipe.name
    found = _bundle_of(home, runner, lock, request.signer)
    _require_artifact(runner, home, found)
    evidence = obtain_evidence(runner, request.host)
    checks = run_checks(plan.file.recipe.checks, evidence, ())
    report = make_report(runner, evidence, (), checks)
    forget_doubtful(runner, evidence, checks)
    value = _set_of(runner, evidence, report)
    file = add_evidence(home, value, report_page, request.signer, console.warn) if found else None
    _require_passed(home if found else None, checks, report)
    return Proved(value, file, report)


def prove_bundle(
    home: Path, host: Host, signer: CryptoSigner | None, store: Store, console: Console
) -> Proved:
    """Measure a bundle's artifact without its recipe: its golden vectors, latency and memory; keep that in the bundle."""
    found = require_intact(home)
    require_key(home, found, signer)
    with console.task(f"measure {shown(home)}"):
        golden = check_golden(
            home, artifact_files(found), found.plan, found.report, host, store.root
        )
    value = {
        "artifact": found.report["artifact"]["digest"],
        "device": found.plan["target"]["device"],
        "recipe": found.report["name"],
        "plan": None,
        "place": asdict(golden.place),
        "measures": plain_measures(golden.measures),
        "conditions": golden.conditions(),
        "checks": [],
        "missing": [_NEED_IMAGES, _NEED_EXPORT],
    }
    return Proved(value, add_evidence(home, value, report_page, signer, console.warn))


def _bundle_of(
    home: Path, runner: Runner, lock: LockFile, signer: CryptoSigner | None
) -> Inspection | None:
    """The recipe's bundle, intact and as the lock says; None if there is none."""
    if not (home / MANIFEST).is_file():
        return None
    plan, found = runner.plan, require_intact(home)
    recipe = shown(plan.file.path)
    if found.plan["steps"][-1]["id"] != plan.final.id:
        raise LockMismatch(
            f"{shown(home)}: is not what {recipe} asks for now: a step, its inputs or its tools are others. Deploy again, or measure the "
            f"bundle as it is: yolodeploy measure {shown(home)}"
        )
    if lock.lock and (problems := list(lock_problems(found, lock.lock))):
        listed = "\n  ".join(problems)
        raise LockMismatch(
            f"{shown(home)}: differs from {shown(lock.path)}:\n  {listed}\nDeploy again."
        )
    require_key(home, found, signer)
    return found


def _require_artifact(runner: Runner, home: Path, found: Inspection | None) -> None:
    """Have the artifact in the store: it is there, or a lock proves that the bundle's is the one."""
    plan = runner.plan
    digest = found.report["artifact"]["digest"] if found else None
    if runner.has(len(plan.steps) - 1):
        if digest not in (None, runner.final().meta.digest):
            raise VerificationFailed(
                f"{shown(home)}: has another artifact than the store has for {shown(plan.file.path)}, although no input differs. "
                "Deploy again; `yolodeploy reproduce` tells which step varies."
            )
        return
    locked = runner.locked.get(plan.final.id)
    if found is None or locked != digest:
        where = f"neither in the store nor in {shown(home)}"
        if found is not None:
            where = f"not in the store, and no lock proves that the one in {shown(home)} is it"
        raise StoreProblem(
            f"{shown(plan.file.path)}: its artifact is {where}, and `measure` builds nothing. Run: yolodeploy deploy "
            f"{shown(plan.file.path)}"
        )

    def copy(work: Path) -> Path:
        for name in artifact_files(found):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / name, work / name)
        return work

    step = plan.final.step
    runner.store.obtain(Entry(plan.final.id, step.name, step.produces, locked, str(home)), copy)
    runner.final()


def _set_of(runner: Runner, evidence: Evidence, report: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, as a set of evidence."""
    wanted = runner.plan.file.recipe.checks
    return {
        "artifact": report["artifact"]["digest"],
        "device": report["target"]["device"],
        "recipe": report["name"],
        "plan": plan_digest(runner.plan),
        "place": asdict(evidence.place),
        "measures": report["measures"],
        "conditions": {key: each for key, each in report["conditions"].items() if key != "place"},
        "checks": report["checks"],
        "missing": [_STEP_DROP] if wanted.step_drop else [],
    }


def _require_passed(home: Path | None, checks: Sequence[Check], report: Mapping[str, Any]) -> None:
    wrong = [check for check in checks if not check.ok]
    if not wrong:
        return
    kept = f"{shown(home)} keeps the evidence, and ships as before." if home else ""
    lines = "".join(f"\n  {check.failure()}" for check in wrong)
    failed = any(check.verdict == Verdict.FAILED for check in wrong)
    kind = ChecksFailed if failed else Undecided
    raise kind(f"{report['name']}: not every check passes there. {kept}{lines}", report)
