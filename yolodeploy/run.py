"""Plan -> results: reuse what the store has, run what it lacks."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.backend import Artifact, Context, ModelInfo
from yolodeploy.console import Console, Report
from yolodeploy.errors import DataError, EnvironmentProblem, StepFailed, YolodeployError
from yolodeploy.machine import threads
from yolodeploy.plan import Plan, PlannedStep, weights_path
from yolodeploy.store import FULL, Store, Stored


@dataclass(frozen=True)
class Runner:
    """Runs the steps of one plan in one store."""

    plan: Plan
    store: Store
    console: Console

    def final(self) -> Stored:
        """The artifact that ships. Earlier results are only touched if this one is missing."""
        return self.result(len(self.plan.steps) - 1)

    def source(self) -> Stored:
        """The source model, as loaded from the weights."""
        return self.result(0)

    def reference(self) -> Stored:
        """The plain float export that latency is compared with."""
        return self._obtain(self.plan.reference, self.plan.export - 1)

    def result(self, index: int) -> Stored:
        """The result of a step of the plan."""
        return self._obtain(self.plan.steps[index], index - 1)

    def _obtain(self, planned: PlannedStep, before: int) -> Stored:
        found = self.store.find(planned.id, self.console.warn)
        if found:
            self.console.detail(f"{planned.step.name}: {planned.id[:12]} is in the store")
            return found
        problem = planned.backend.problem()
        if problem:
            raise EnvironmentProblem(
                f"{planned.at}: the {planned.backend.NAME} backend cannot run here: {problem}"
            )
        given = self._input(before)

        def make(work: Path) -> Path:
            with self.console.task(f"{planned.step.name} {planned.step.produces}") as report:
                return self._run(planned, given, work, report)

        return self.store.obtain(
            planned.id, planned.step.name, planned.step.produces, make, self.console.warn
        )

    def _input(self, before: int) -> Artifact:
        if before >= 0:
            return self.result(before).artifact
        path = weights_path(self.plan)
        return Artifact(path.suffix.lower(), path, self.plan.weights_digest)

    def _run(self, planned: PlannedStep, given: Artifact, work: Path, report: Report) -> Path:
        context = Context(
            work=work,
            seed=self.plan.file.recipe.seed,
            imgsz=self.plan.file.recipe.model.imgsz,
            threads=threads(),
            target=self.plan.target,
            names=self._names(given),
            data={name: self.plan.views[name] for name in planned.step.reads},
            progress=report,
        )
        try:
            result = planned.step.run(given, planned.params, context)
        except YolodeployError as fault:
            raise type(fault)(f"{planned.at}: {fault}") from fault
        except OSError as fault:
            if fault.errno in FULL:
                raise
            raise _failed(planned, fault) from fault
        except (
            RuntimeError,
            ValueError,
            ImportError,
            TypeError,
            KeyError,
            AttributeError,
        ) as fault:
            raise _failed(planned, fault) from fault
        if not result.is_relative_to(work):
            raise StepFailed(
                f"{planned.at}: `{planned.step.name}` returned {result}, which is not in its work folder"
            )
        return result

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
            f"{at}: the data set names {len(ours)} classes, the model {len(names)} ({', '.join(names[:5])}, ...). "
            "Use the data.yaml that the model was trained with."
        )
    for index, (our, their) in enumerate(zip(ours, names, strict=True)):
        if our != their:
            raise DataError(
                f"{at}: class {index} is `{our}` in the data set but `{their}` in the model. "
                "Use the data.yaml that the model was trained with."
            )


def _failed(planned: PlannedStep, fault: Exception) -> StepFailed:
    text = str(fault).strip().splitlines()
    reason = text[-1] if text else type(fault).__name__
    hint = "" if getattr(fault, "errno", None) != errno.ENOENT else " Is the tool installed?"
    return StepFailed(
        f"{planned.at}: `{planned.step.name}` of {planned.backend.NAME} failed: "
        f"{type(fault).__name__}: {reason}.{hint} Run with -v for the whole trace."
    )
