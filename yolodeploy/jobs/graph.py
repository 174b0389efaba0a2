"""The jobs of recipes that are ready: what the store lacks, each piece once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from yolodeploy.deployment import Found, Ready, Request, measure
from yolodeploy.hosts import LOCAL
from yolodeploy.jobs.job import Goal, Job, What, Work
from yolodeploy.measure import (
    TIMED,
    Comparison,
    Evidence,
    evidence_id,
    in_detail,
    obtain_comparison,
    obtain_evidence,
)
from yolodeploy.planning import Plan
from yolodeploy.store import NotStored
from yolodeploy.system import conditions, digest_of


@dataclass(frozen=True)
class Need:
    """What a recipe needs: jobs, each after those whose results it takes; or none, and its figures."""

    jobs: tuple[Job, ...]
    found: Found | Comparison | Evidence | None = None


def need_of(ready: Ready, goal: Goal, *, source: bool = False) -> Need:
    """The jobs of a recipe that is ready, which the store lacks the results of.

    Artifacts are measured on another host by this process, so jobs only make them. With `source`, the source model's findings are
    a job of their own, for several recipes to share; else the first comparison measures both models in one pass.
    """
    measures = goal != Goal.BUILD
    if measures and (found := _measured(ready, goal)):
        return Need((), found)
    whole = measures or ready.request.locked
    here = goal if ready.request.host is LOCAL else Goal.BUILD
    return Need(tuple(_jobs(ready, here, whole=whole, source=source)))


def figures(ready: Ready, goal: Goal) -> Found | Comparison | Evidence:
    """What a goal asks to be measured: from the store, or measured now."""
    if goal == Goal.COMPARE:
        return obtain_comparison(ready.runner, ready.request.host)[0]
    if goal == Goal.TIME:
        return obtain_evidence(ready.runner, ready.request.host)
    return measure(ready)


def merged(needs: Iterable[Need]) -> dict[str, Job]:
    """The jobs of all recipes by id, each once."""
    jobs: dict[str, Job] = {}
    for job in (job for need in needs for job in need.jobs):
        jobs.setdefault(job.id, job)
    return jobs


def _measured(ready: Ready, goal: Goal) -> Found | Comparison | Evidence | None:
    """The figures of an artifact if the store has all of them."""
    try:
        with ready.runner.store.reading():
            return figures(ready, goal)
    except NotStored:
        return None


def work_of(request: Request, store: Path) -> Work:
    """Where jobs of a recipe work, in the store in a folder."""
    return Work(
        str(request.recipe.absolute()),
        str(request.recipe),
        tuple(str(path.absolute()) for path in request.allowed),
        request.trusted,
        str(store),
        request.shared,
        str(Path.cwd()),
    )


def _jobs(ready: Ready, goal: Goal, *, whole: bool, source: bool) -> Iterator[Job]:
    """The jobs of a recipe, each after those that it needs; `whole` says that all results are wanted, not only the last."""
    runner, work = ready.runner, work_of(ready.request, ready.runner.store.root)
    plan, peek = runner.plan, runner.store.peek
    if not whole and runner.has(len(plan.steps) - 1):
        return
    name, first = plan.file.recipe.name, plan.steps[0].id
    for index, planned in enumerate(plan.steps):
        if not peek(planned.id):
            needs = (plan.steps[index - 1].id, first) if index else ()
            title = f"{name}: {planned.step.name} {planned.step.produces}"
            gpu = str(getattr(planned.params, "device", "")).startswith("cuda")
            yield Job(planned.id, What.STEP, index, needs, title, work, gpu=gpu)
    if goal != Goal.BUILD:
        yield from _measurements(ready, work, goal, source=source)


def _measurements(ready: Ready, work: Work, goal: Goal, *, source: bool) -> Iterator[Job]:
    plan, peek = ready.runner.plan, ready.runner.store.peek
    name, here = plan.file.recipe.name, digest_of(conditions())
    model, findings = plan.steps[0].id, source_id(plan)
    reference, compared = plan.export - 1, _id(plan, What.COMPARE, 0)
    if source:
        yield Job(findings, What.SOURCE, 0, (model,), f"{name}: source model", work, here)
    measured = partial(Job, work=work, conditions=here)
    seen = plan.final.id, model, findings
    yield measured(compared, What.COMPARE, 0, seen, f"{name}: compare")
    if goal == Goal.COMPARE:
        return
    if not peek(plan.reference.id):
        title = f"{name}: {plan.reference.step.name} fp32"
        needs = plan.steps[reference].id, model
        yield Job(plan.reference.id, What.FLOAT, reference, needs, title, work)
    needs = compared, plan.reference.id
    alone = any(getattr(plan.file.recipe.checks, check) is not None for check in TIMED)
    yield measured(_id(plan, What.TIME, 0), What.TIME, 0, needs, f"{name}: time", alone=alone)
    detail = goal == Goal.DEPLOY and in_detail(plan)
    for index in range(1, len(plan.steps) - 1) if detail else ():
        planned = plan.steps[index]
        id_, title = _id(plan, What.STAGE, index), f"{name}: compare {planned.step.name}"
        yield measured(id_, What.STAGE, index, (planned.id, *seen, compared), title)


def plan_job(plan: Plan, request: Request, store: Path) -> Job:
    """A job that makes nothing: whether another machine plans the same steps, and can run them."""
    work = work_of(request, store)
    return Job(_id(plan, What.PLAN, 0), What.PLAN, 0, (), plan.file.recipe.name, work)


def expected_id(job: Job, plan: Plan) -> str:
    """The id that a job of a plan must have: a process that would make something else must not."""
    if job.what == What.STEP:
        return plan.steps[job.index].id if job.index < len(plan.steps) else ""
    if job.what == What.FLOAT:
        return plan.floats[job.index].id if job.index in plan.floats else ""
    return source_id(plan) if job.what == What.SOURCE else _id(plan, job.what, job.index)


def source_id(plan: Plan) -> str:
    """Stands for the source model's findings; their own id depends on the loaded model's bytes."""
    about = plan.steps[0].id, plan.view_digests["evaluation"], plan.imgsz.plain, conditions()
    return digest_of([What.SOURCE, *about])


def _id(plan: Plan, what: What, index: int) -> str:
    """Stands for a measurement of a plan."""
    recipe = plan.file.recipe
    if what == What.COMPARE:
        return evidence_id(plan, LOCAL)
    if what == What.PLAN:
        return digest_of([what, *(planned.id for planned in plan.steps)])
    about: list[object] = [evidence_id(plan, LOCAL), what, index]
    if (
        what == What.TIME
    ):  # how long is measured depends on the checks, on how many threads on the target
        about += [recipe.checks.model_dump(mode="json"), recipe.target.threads]
    return digest_of(about)
