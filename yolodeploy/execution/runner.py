"""Turns a plan into results: reuses what the store has, runs what it lacks."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yolodeploy.backend import NO_MODEL, RESERVED, Artifact, Context, ModelInfo
from yolodeploy.errors import (
    DataError,
    EnvironmentProblem,
    ModelError,
    StepFailed,
    StoreProblem,
)
from yolodeploy.execution.plugin_errors import failing_as, tool_message
from yolodeploy.planning import (
    Plan,
    PlannedStep,
    check_names,
    described_target,
    forgetful,
    require_unchanged,
    require_views,
)
from yolodeploy.store import DIGESTS, DISK_ERRORS, Entry, Store, Stored, odd_entries
from yolodeploy.store.remote import SharedStore
from yolodeploy.system import Console, ImageShape, Report, digest_of, shown, threads, tree_files


class Runner:
    """Runs the steps of one plan in one store. Every result is verified once, then reused.

    `locked` are output digests by step id, as far as there is a lock. `cached` are the ids of the results that
    the store had before anything ran. One that does not build only loads the weights, and raises StoreProblem for other results that the
    store lacks.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        console: Console,
        shared: SharedStore | None = None,
        locked: Mapping[str, str] | None = None,
        *,
        builds: bool = True,
    ) -> None:
        self.builds = builds
        self.plan, self.store, self.console = plan, store, console
        self.shared, self.locked = shared, locked or {}
        self.cached = frozenset(step.id for step in plan.steps if store.peek(step.id))
        self._results: dict[str, Stored] = {}
        self._digests = forgetful()

    def final(self) -> Stored:
        """The artifact that ships. Earlier results are only read if this one is missing."""
        return self.result(len(self.plan.steps) - 1)

    def source(self) -> Stored:
        """The source model, as loaded from the weights."""
        return self.result(0)

    def outputs(self) -> dict[str, str]:
        """Output digests by step id; a result that the store has lost is made again."""
        steps = enumerate(self.plan.steps)
        return {planned.id: self.result(index).meta.digest for index, planned in steps}

    def info(self) -> ModelInfo:
        """What the loading step found in the weights; DataError if the data set has other classes.

        StepFailed if the model is for another task than the plan says, or the step kept another head or other classes.
        """
        info = ModelInfo.read(self.source().path)
        _require_chosen(self.plan, info)
        check_names(info.names, self.plan)
        return info

    @property
    def imgsz(self) -> ImageShape:
        """The images that the model takes: the size that the plan says, the rest as the weights have it."""
        return self.info().images(self.plan.imgsz)

    def result(self, index: int) -> Stored:
        """The result of a step: from the store, from the shared store, or made now."""
        planned = self.plan.steps[index]
        if not self.has(index):
            made = self._make(planned, index - 1)
            if self.shared and not made.cached:
                self.shared.offer(self.store, made)
            self._results[planned.id] = made
        return self._results[planned.id]

    def has(self, index: int) -> bool:
        """Whether the result of a step is in the store or the shared store."""
        planned = self.plan.steps[index]
        if planned.id not in self._results:
            found = self._find(index) or self._fetch(planned)
            if found is None:
                return False
            self._results[planned.id] = found
        return True

    def float_export(self, index: int) -> Stored:
        """The plain float export of a step's result, to compare latencies with.

        It is not shared: no lock names it, so nothing would prove it.
        """
        planned = self.plan.floats[index]
        if planned.id not in self._results:
            found = self.store.find(planned.id, given=self._input(index).digest)
            made = found or self._make(planned, index, " (fp32, to compare with)")
            self._results[planned.id] = made
        return self._results[planned.id]

    def _find(self, index: int) -> Stored | None:
        """What the store has. If the lock names other bytes, they must come from the result before."""
        planned = self.plan.steps[index]
        locked = self.locked.get(planned.id)
        found = self.store.find(planned.id, locked)
        differs = found and locked not in (None, found.meta.digest)
        if differs and index and self.store.peek(self.plan.steps[index - 1].id):
            given = self.result(index - 1).meta.digest
            found = self.store.find(planned.id, locked, given)
        return found

    def _fetch(self, planned: PlannedStep) -> Stored | None:
        if self.shared is None:
            return None
        step = planned.step
        return self.shared.fetch(self.store, planned.id, step.name, step.produces)

    def _make(self, planned: PlannedStep, before: int, note: str = "") -> Stored:
        """Run a step on the result of step `before` (-1: on the weights)."""
        step, backend = planned.step, planned.backend
        if not (self.builds or planned.loads_weights):
            raise StoreProblem(
                f"{planned.at}: the result of `{step.name}`{note} is not in the store, and nothing is built here. Run: "
                f"yolodeploy build {shown(self.plan.file.path)}"
            )
        if problem := backend.problem():
            raise EnvironmentProblem(
                f"{planned.at}: the {backend.NAME} backend cannot run here: {problem}"
            )
        given = self._input(before)
        if not planned.loads_weights:
            self.info()  # refuses other classes before anything runs

        def run(work: Path) -> Path:
            with self.console.task(f"{step.name} {step.produces}{note}") as report:
                context = self.context(planned, given, work, report)
                with failing_as(planned.at, f"`{step.name}` of {backend.NAME}"):
                    result = step.run(given, planned.params, context)
                _require_folder(planned, result, work)
                with self._forgetting(planned):
                    require_unchanged(self.plan, planned)
                return result

        locked = self.locked.get(planned.id)
        entry = Entry(planned.id, step.name, step.produces, locked, given=given.digest)
        return self.store.obtain(entry, run)

    def _input(self, before: int) -> Artifact:
        if before >= 0:
            return as_artifact(self.result(before))
        weights = self.plan.weights
        return Artifact(weights.suffix.lower(), weights, self.plan.weights_digest)

    @contextlib.contextmanager
    def _forgetting(self, planned: PlannedStep) -> Iterator[None]:
        """If inputs changed, forget their digests and the progress that the step made with them."""
        try:
            yield
        except (ModelError, DataError):
            shutil.rmtree(self.store.resume(planned.id), ignore_errors=True)
            (self.store.root / DIGESTS).unlink(missing_ok=True)
            raise

    def context(self, planned: PlannedStep, given: Artifact, work: Path, report: Report) -> Context:
        """The context in which a step runs on the artifact `given`, in the folder `work`."""
        recipe, loading = self.plan.file.recipe, planned.loads_weights
        about = {
            "step": [planned.backend.NAME, planned.step.name, planned.step.revision],
            "input": given.digest,
            "imgsz": self.plan.imgsz.plain,
            "seed": recipe.seed,
            "target": described_target(self.plan.target),
            "versions": planned.versions,
        }
        return Context(
            work=work,
            seed=recipe.seed,
            imgsz=self.plan.imgsz if loading else self.imgsz,
            threads=threads(),
            target=self.plan.target,
            model=NO_MODEL if loading else self.info(),
            data={name: self.plan.views[name] for name in planned.data},
            progress=report,
            note=report.note,
            memo=lambda key, compute: self._memo(planned, {**about, "key": key}, compute),
            source=None if loading else as_artifact(self.source()),
            resume=self.store.resume(planned.id),
        )

    def _memo(
        self, planned: PlannedStep, key: Mapping[str, Any], compute: Callable[[], Any]
    ) -> Any:
        """Plain data kept in the store under the digest of the key."""

        def compute_unchanged(_: Path) -> Any:
            try:
                data = compute()
            except OSError as error:
                if error.errno in DISK_ERRORS:
                    raise
                raise StepFailed(tool_message(error)) from error  # the store works
            with self._forgetting(planned):
                read = {"calibration", "evaluation", *planned.data}
                require_views(self.plan, read & self.plan.views.keys(), self._digests)
            return data

        data, _ = self.store.remember(digest_of(key), "json", compute_unchanged)
        return data


def _require_chosen(plan: Plan, info: ModelInfo) -> None:
    first, model = plan.steps[0], plan.model
    if (task := plan.views["evaluation"].task) != info.task:
        raise StepFailed(
            f"{first.at}: the weights are of a model for `{info.task}`, and the data set was read for `{task}`, for nothing "
            f"could read the weights when the recipe was planned. Install what the {first.backend.NAME} plugin lacks (`yolodeploy "
            "doctor`); if it lacks nothing, report it to its author."
        )
    classes = getattr(first.params, "classes", None)
    if classes in (None, info.names) and (model is None or model.head == info.head):
        return
    wanted = (
        f"the {model.head if model else info.head} head and {len(classes or info.names)} classes"
    )
    raise StepFailed(
        f"{first.at}: `{first.step.name}` was to keep {wanted}, and kept the {info.head} head and "
        f"{len(info.names)} classes. Report it to the author of the {first.backend.NAME} plugin."
    )


def as_artifact(stored: Stored) -> Artifact:
    """A stored result as the input of another step."""
    return Artifact(stored.meta.format, stored.path, stored.meta.digest)


def _require_folder(planned: PlannedStep, result: Path, work: Path) -> None:
    if not result.is_relative_to(work):
        problem = f"returned {result}, which is not in its work folder"
    elif not result.is_dir():
        problem = f"returned {result.relative_to(work)}, which is not a folder"
    elif not tree_files(result):
        problem = f"left no files in {result.relative_to(work)}"
    elif other := next(odd_entries(result), None):
        problem = f"left something that is not a file: {other}"
    elif taken := RESERVED & {path.name for path in result.iterdir()}:
        problem = f"wrote a file named `{min(taken)}`, which is the name of a bundle's own file"
    else:
        return
    raise StepFailed(
        f"{planned.at}: `{planned.step.name}` {problem}. "
        f"Report it to the author of the {planned.backend.NAME} plugin."
    )
