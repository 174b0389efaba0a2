"""Plan -> results: reuse what the store has, run what it lacks."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Context, ModelInfo
from yolodeploy.console import Console, Report
from yolodeploy.digest import StatCache, digest_of, tree_files
from yolodeploy.diskfaults import DISK
from yolodeploy.errors import DataError, EnvironmentProblem, ModelError, StepFailed
from yolodeploy.failing import failing_as, reason
from yolodeploy.machine import threads
from yolodeploy.manifest import RESERVED
from yolodeploy.objects import Stored, odd_entries
from yolodeploy.plan import Plan, PlannedStep, described_target, weights_path
from yolodeploy.shared import Shared
from yolodeploy.store import DIGESTS, Store
from yolodeploy.unchanged import forgetful, require_unchanged, require_views

_MEMO = "data.json"


@dataclass(frozen=True)
class Runner:
    """Runs the steps of one plan in one store; `locked` are output digests by step id, as far as there is a lock."""

    plan: Plan
    store: Store
    console: Console
    shared: Shared | None = None
    locked: Mapping[str, str] = field(default_factory=dict)
    _seen: StatCache = field(default_factory=forgetful)

    def final(self) -> Stored:
        """The artifact that ships. Earlier results are only touched if this one is missing."""
        return self.result(len(self.plan.steps) - 1)

    def source(self) -> Stored:
        """The source model, as loaded from the weights."""
        return self.result(0)

    def float_export(self, index: int) -> Stored:
        """The plain float export of the result of a step, to compare latencies with.

        It is not shared: no lock names it, so nothing would prove it.
        """
        planned, given = self.plan.floats[index], self._input(index).digest
        found = self.store.find(planned.id, self.console.warn, given=given)
        return found or self._made(planned, index, " (fp32, to compare with)")

    def result(self, index: int) -> Stored:
        """The result of a step of the plan: from the store, from the shared one, or made."""
        planned = self.plan.steps[index]
        there = self._kept(index)
        if there:
            return there
        made = self._made(planned, index - 1)
        if self.shared and not made.cached:
            self.shared.offer(self.store, made)
        return made

    def kept(self, index: int) -> bool:
        """Whether the result of a step is in the store, or in the one that is shared."""
        return self._kept(index) is not None

    def _kept(self, index: int) -> Stored | None:
        return self._found(index) or self._fetched(self.plan.steps[index])

    def _found(self, index: int) -> Stored | None:
        """What the store has. If that is not what the lock names, it may have been made of what no lock names."""
        planned = self.plan.steps[index]
        locked = self.locked.get(planned.id)
        found = self.store.find(planned.id, self.console.warn, locked)
        unlike = found and locked not in (None, found.meta.digest)
        if unlike and index and self.store.peek(self.plan.steps[index - 1].id):
            given = self.result(index - 1).meta.digest
            found = self.store.find(planned.id, self.console.warn, locked, given)
        if found:
            self.console.detail(f"{planned.step.name}: {planned.id[:12]} is in the store")
        return found

    def _made(self, planned: PlannedStep, before: int, why: str = "") -> Stored:
        problem = planned.backend.problem()
        if problem:
            raise EnvironmentProblem(
                f"{planned.at}: the {planned.backend.NAME} backend cannot run here: {problem}"
            )
        given = self._input(before)
        names = self._names(given)

        def make(work: Path) -> Path:
            with self.console.task(f"{planned.step.name} {planned.step.produces}{why}") as report:
                return self._run(planned, given, names, work, report)

        return self.store.obtain(
            planned.id,
            planned.step.name,
            planned.step.produces,
            make,
            self.console.warn,
            locked=self.locked.get(planned.id),
            given=given.digest,
        )

    def _fetched(self, planned: PlannedStep) -> Stored | None:
        if self.shared is None:
            return None
        step = planned.step
        return self.shared.fetch(self.store, planned.id, step.name, step.produces)

    def _input(self, before: int) -> Artifact:
        if before >= 0:
            return self.result(before).artifact
        path = weights_path(self.plan)
        return Artifact(path.suffix.lower(), path, self.plan.weights_digest)

    def _run(
        self,
        planned: PlannedStep,
        given: Artifact,
        names: tuple[str, ...],
        work: Path,
        report: Report,
    ) -> Path:
        context = self.context(planned, given, names, work, report)
        with failing_as(planned.at, f"`{planned.step.name}` of {planned.backend.NAME}"):
            result = planned.step.run(given, planned.params, context)
        _require_folder(planned, result, work)
        with self._forgetting(planned):
            require_unchanged(self.plan, planned)
        return result

    @contextlib.contextmanager
    def _forgetting(self, planned: PlannedStep) -> Iterator[None]:
        """If inputs changed, forget what was remembered of them, and how far the step came with them."""
        try:
            yield
        except (ModelError, DataError):
            shutil.rmtree(self.store.resume(planned.id), ignore_errors=True)
            (self.store.root / DIGESTS).unlink(missing_ok=True)
            raise

    def context(
        self,
        planned: PlannedStep,
        given: Artifact,
        names: tuple[str, ...],
        work: Path,
        report: Report,
    ) -> Context:
        """What a step gets to run with on the artifact `given`, in the folder `work`."""
        recipe = self.plan.file.recipe
        about = {
            "step": [planned.backend.NAME, planned.step.name, planned.step.revision],
            "input": given.digest,
            "imgsz": recipe.model.imgsz,
            "seed": recipe.seed,
            "target": described_target(self.plan.target),
            "versions": planned.versions,
        }
        return Context(
            work=work,
            seed=recipe.seed,
            imgsz=recipe.model.imgsz,
            threads=threads(),
            target=self.plan.target,
            names=names,
            data={name: self.plan.views[name] for name in planned.step.needs(planned.params)},
            progress=report,
            memo=lambda key, compute: self._memo(planned, {**about, "key": key}, compute),
            source=None if given.format.startswith(".") else self.source().artifact,
            resume=self.store.resume(planned.id),
        )

    def _memo(
        self, planned: PlannedStep, key: Mapping[str, Any], compute: Callable[[], Any]
    ) -> Any:
        """Plain data kept in the store under the digest of the key."""

        def make(work: Path) -> Path:
            try:
                data = compute()
            except OSError as fault:
                if fault.errno in DISK:
                    raise
                raise StepFailed(reason(fault)) from fault  # no fault of the store's
            with self._forgetting(planned):
                read = {"calibration", "evaluation", *planned.step.needs(planned.params)}
                require_views(self.plan, read & self.plan.views.keys(), self._seen)
            text = json.dumps(data, allow_nan=False, sort_keys=True)
            (work / _MEMO).write_text(text, encoding="utf-8")
            return work

        stored = self.store.obtain(digest_of(key), "memo", "json", make, self.console.warn)
        return json.loads((stored.path / _MEMO).read_text(encoding="utf-8"))

    def _names(self, given: Artifact) -> tuple[str, ...]:
        if given.format.startswith("."):
            return ()
        return self.info().names

    def info(self) -> ModelInfo:
        """What the loading step found in the weights; its class names must be the data set's."""
        info = ModelInfo.read(self.source().path)
        check_names(info.names, self.plan)
        return info


def check_names(names: tuple[str, ...], plan: Plan) -> None:
    """Refuse a data set whose classes are not the model's."""
    ours = plan.views["evaluation"].names
    at = plan.file.where("data", "path")
    if len(ours) != len(names):
        raise DataError(
            f"{at}: the data set names {_classes(len(ours))}, the model {len(names)} ({_first(names)}). "
            "Use the data.yaml that the model was trained with."
        )
    for index, (our, their) in enumerate(zip(ours, names, strict=True)):
        if our != their:
            raise DataError(
                f"{at}: class {index} is `{our}` in the data set but `{their}` in the model. "
                "Use the data.yaml that the model was trained with."
            )


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 5 else (*names[:5], "..."))


def _require_folder(planned: PlannedStep, result: Path, work: Path) -> None:
    if not result.is_relative_to(work):
        what = f"returned {result}, which is not in its work folder"
    elif not result.is_dir():
        what = f"returned {result.relative_to(work)}, which is not a folder"
    elif not tree_files(result):
        what = f"left no files in {result.relative_to(work)}"
    elif odd := next(odd_entries(result), None):
        what = f"left something that is no file: {odd}"
    elif taken := RESERVED & {path.name for path in result.iterdir()}:
        what = f"wrote a file named `{min(taken)}`, which a bundle needs for itself"
    else:
        return
    raise StepFailed(
        f"{planned.at}: `{planned.step.name}` {what}. "
        f"Report it to the author of the {planned.backend.NAME} plugin."
    )
