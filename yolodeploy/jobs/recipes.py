"""Builds or deploys recipes: plans them together, lets an executor make what they need, and finishes each as soon as it can be.

requests --prepare--> Ready --need_of--> jobs --executor--> results in the store --make_artifact, measure, ship--> Results
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from yolodeploy.deployment import Deployed, Found, Ready, Request, make_artifact, prepare, ship
from yolodeploy.errors import RecipeError, YolodeployError
from yolodeploy.execution import Run, as_error, explain
from yolodeploy.jobs.executor import Executor
from yolodeploy.jobs.faults import error_of
from yolodeploy.jobs.graph import Need, figures, merged, need_of, source_id, work_of
from yolodeploy.jobs.job import Goal, Job, Outcome
from yolodeploy.measure import Comparison, Evidence
from yolodeploy.planning import Planner
from yolodeploy.store import Store, Stored
from yolodeploy.system import Console, shown

Made = Deployed | Stored | Comparison | Evidence


@dataclass(frozen=True)
class Result:
    """What became of a recipe: what was made, or the error. `seconds` are those of the jobs that it needed, and of finishing it."""

    recipe: Path
    name: str
    made: Made | None
    error: YolodeployError | None
    seconds: float


@dataclass
class _Recipe:
    """A recipe on its way."""

    request: Request
    ready: Ready | None = None
    need: Need = field(default_factory=lambda: Need(()))
    waiting: set[str] = field(default_factory=set)
    made: Made | None = None
    error: YolodeployError | None = None
    seconds: float = 0.0
    finished: bool = False

    def result(self) -> Result:
        path = self.request.recipe
        name = self.ready.runner.plan.file.recipe.name if self.ready else path.stem
        return Result(path, name, self.made, self.error, round(self.seconds, 1))


def make_recipes(
    requests: Sequence[Request],
    store: Store,
    console: Console,
    executor: Executor,
    run: Run,
    *,
    goal: Goal,
) -> list[Result]:
    """Bring recipes to a goal: build, compare, time or deploy them. A recipe that fails does not stop the others.

    Raises RecipeError if two are the same, or would write the same bundle. An exception that is a bug is raised if there is but
    one recipe, else reported in its result.
    """
    _refuse_twice([request.recipe for request in requests])
    batch = _Batch([_Recipe(request) for request in requests], store, console, executor, run, goal)
    try:
        with executor:
            batch.prepare()
            batch.work()
    finally:
        store.release()  # errors keep frames, and those the store, alive
    return [recipe.result() for recipe in batch.recipes]


def _refuse_twice(recipes: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for recipe in recipes:
        first = seen.setdefault(recipe.resolve(), recipe)
        if first is not recipe:
            raise RecipeError(f"{shown(recipe)}: is named twice. Name every recipe once.")


@dataclass
class _Batch:
    recipes: Sequence[_Recipe]
    store: Store
    console: Console
    executor: Executor
    run: Run
    goal: Goal

    @property
    def bundles(self) -> bool:
        """Whether bundles are written."""
        return self.goal == Goal.DEPLOY

    def prepare(self) -> None:
        """Plan all recipes, and refuse what can be refused before anything runs."""
        first = self.recipes[0].request
        planner = Planner.of_store(
            self.store.root, first.allowed, trusted=first.trusted, elsewhere=self._plan
        )
        with planner:
            for recipe in self.recipes:
                with self._failing(recipe):
                    recipe.ready = prepare(
                        recipe.request, self.store, self.console, planner, bundles=self.bundles
                    )
                    self._explain(recipe.ready)
        if self.bundles:
            self._refuse_same_bundle()

    def _explain(self, ready: Ready) -> None:
        """Say with -v why each step is reused or runs."""
        if self.console.level >= 1:
            for line in explain(ready.runner.plan, self.store, ready.lock):
                self._detail(ready, line)

    def _say_measured(self, recipe: _Recipe) -> None:
        """Say with -v whether the figures are reused."""
        if recipe.ready and self.goal != Goal.BUILD:
            there = "reused, all figures of this artifact on this machine are in the store"
            missing = "not all figures of this artifact on this machine are in the store"
            self._detail(recipe.ready, f"measure: {there if recipe.need.found else missing}")

    def _detail(self, ready: Ready, text: str) -> None:
        several = len(self.recipes) > 1
        name = ready.runner.plan.file.recipe.name
        self.console.detail(f"{name}: {text}" if several else text)

    def _plan(self, recipe: Path) -> None:
        request = next(r.request for r in self.recipes if r.request.recipe == recipe)
        self.executor.plan(work_of(request, self.store.root))

    def _refuse_same_bundle(self) -> None:
        seen: dict[str, _Recipe] = {}
        for recipe in self.recipes:
            if recipe.ready is None:
                continue
            name = recipe.ready.runner.plan.file.recipe.name
            first = seen.setdefault(name, recipe)
            if first is not recipe:
                raise RecipeError(
                    f"{shown(first.request.recipe)} and {shown(recipe.request.recipe)} would both write the bundle "
                    f"{shown(recipe.request.dist / name)}. Give one of them another `name`."
                )

    def work(self) -> None:
        """Let the executor do the jobs; finish each recipe when its jobs are done."""
        plans = [recipe.ready.runner.plan for recipe in self.recipes if recipe.ready]
        shared = self.executor.beside and self.goal != Goal.BUILD
        sources = [source_id(plan) for plan in plans] if shared else []
        for recipe in self.recipes:
            if recipe.ready is None:
                continue
            source = shared and sources.count(source_id(recipe.ready.runner.plan)) > 1
            with self._failing(recipe):
                recipe.need = need_of(recipe.ready, self.goal, source=source)
                recipe.waiting = {job.id for job in recipe.need.jobs}
                self._say_measured(recipe)
        for recipe in self.recipes:
            self._finish_if_done(recipe)
        self.executor.run(merged(recipe.need for recipe in self.recipes), self._done, self._wanted)

    def _wanted(self, job: Job) -> bool:
        return any(job.id in recipe.waiting for recipe in self.recipes if not recipe.error)

    def _done(self, job: Job, outcome: Outcome) -> None:
        for recipe in self.recipes:
            if job.id not in recipe.waiting:
                continue
            recipe.waiting.remove(job.id)
            recipe.seconds += outcome.seconds
            if outcome.fault and not recipe.error:
                with self._failing(recipe):
                    raise error_of(outcome.fault, self.run)
            self._finish_if_done(recipe)

    def _finish_if_done(self, recipe: _Recipe) -> None:
        if recipe.ready is None or recipe.error or recipe.waiting or recipe.finished:
            return
        recipe.finished, start = True, time.monotonic()
        with self._failing(recipe):
            recipe.made = self._finish(recipe.ready, recipe.need)
        recipe.seconds += time.monotonic() - start

    def _finish(self, ready: Ready, need: Need) -> Made:
        artifact = make_artifact(ready)
        if self.goal == Goal.BUILD:
            return replace(artifact, cached=ready.runner.plan.final.id in ready.runner.cached)
        found = need.found or figures(ready, self.goal)
        return ship(ready, found) if isinstance(found, Found) else found

    @contextlib.contextmanager
    def _failing(self, recipe: _Recipe) -> Iterator[None]:
        """Keep what is raised in the block as the recipe's error, and print it if there are others."""
        alone = len(self.recipes) == 1
        try:
            yield
        except Exception as error:
            if alone and not isinstance(error, YolodeployError):
                raise
            recipe.error = as_error(error, self.run)
        if recipe.error and not alone:
            self.console.error(str(recipe.error))
            if cause := recipe.error.__cause__:
                self.console.detail("".join(traceback.format_exception(cause)))
