"""Does jobs in this process: plans each recipe once, and lets the runner make what a job asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from yolodeploy.backend import RESERVED
from yolodeploy.errors import RecipeError
from yolodeploy.execution import Runner
from yolodeploy.hosts import LOCAL
from yolodeploy.jobs.faults import fault_of
from yolodeploy.jobs.graph import expected_id
from yolodeploy.jobs.job import Job, Outcome, What, Work
from yolodeploy.measure import (
    obtain_comparison,
    obtain_evidence,
    obtain_source,
    obtain_stage,
)
from yolodeploy.planning import LockFile, Plan, Planner, problem_here
from yolodeploy.store import Store, Stored
from yolodeploy.store.remote import shared_store
from yolodeploy.system import Console, conditions, digest_of


class Workplace:
    """Plans and jobs in this process; what recipes share is read once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._planners: dict[tuple[object, ...], Planner] = {}
        self._plans: dict[Work, Plan] = {}

    def plan(self, work: Work) -> Plan:
        """The plan of a recipe; what was read of weights and files is kept in the store."""
        if work not in self._plans:
            key = work.store, work.allowed, work.trusted
            if key not in self._planners:
                allowed = map(Path, work.allowed)
                self._planners[key] = Planner.of_store(
                    Path(work.store), allowed, trusted=work.trusted
                )
            with self._planners[key] as planner:
                self._plans[work] = planner.plan(_recipe(work))
        return self._plans[work]

    def perform(self, job: Job) -> Outcome:
        """Do a job; whatever goes wrong is in the outcome. Ctrl-C is not caught."""
        start = time.monotonic()
        try:
            found = self._perform(job)
        except Exception as error:  # noqa: BLE001 - raised again where the command runs
            found = Outcome(job.id, fault=fault_of(error))
        return replace(found, seconds=round(time.monotonic() - start, 3))

    def _perform(self, job: Job) -> Outcome:
        plan = self.plan(job.work)
        if job.what == What.PLAN:
            return Outcome(job.id, other=_unfit(job, plan) or problem_here(plan) or "")
        if job.conditions and job.conditions != digest_of(conditions()):
            return Outcome(job.id, other="is another machine than the one that asks for figures")
        if unfit := _unfit(job, plan):
            return Outcome(job.id, other=unfit)
        store = Store(Path(job.work.store), self._console.warn)
        try:
            outcome = _made(job, self._runner(job.work, plan, store))
            return replace(outcome, used=tuple(sorted(store.used)))
        finally:
            store.release()

    def _runner(self, work: Work, plan: Plan, store: Store) -> Runner:
        lock = LockFile.beside(plan)
        shared = shared_store(work.shared, self._console, lock.outputs, store.root, RESERVED)
        return Runner(plan, store, self._console, shared, lock.outputs)


def _unfit(job: Job, plan: Plan) -> str | None:
    if expected_id(job, plan) == job.id:
        return None
    return "plans other steps: versions of tools, or files, are not the same"


def _recipe(work: Work) -> Path:
    """The recipe by the path that the user gave where that is the same file, for messages; else its whole path."""
    said, recipe = Path(work.said), Path(work.recipe)
    if not recipe.exists():
        raise RecipeError(
            f"{recipe}: the recipe does not exist on the machine that was to work on it"
        )
    try:
        return said if said.samefile(recipe) else recipe
    except OSError:
        return recipe


def _made(job: Job, runner: Runner) -> Outcome:
    stored = _makers(job, runner)[job.what]()
    if isinstance(stored, Stored):
        return Outcome(job.id, stored.meta.digest, stored.cached)
    return Outcome(job.id)


def _makers(job: Job, runner: Runner) -> dict[What, Callable[[], object]]:
    source = cache(lambda: obtain_source(runner).found(runner.info()))
    return {
        What.STEP: lambda: runner.result(job.index),
        What.FLOAT: lambda: runner.float_export(job.index),
        What.SOURCE: lambda: obtain_source(runner),
        What.COMPARE: lambda: obtain_comparison(runner, LOCAL),
        What.STAGE: lambda: obtain_stage(runner, LOCAL, job.index, source),
        What.TIME: lambda: obtain_evidence(runner, LOCAL),
    }
