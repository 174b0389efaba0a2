"""`yolodeploy sensitivity`: what each layer costs if it alone is compressed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Artifact, Context, Place, Predictor, Probe, Trial
from yolodeploy.data import Dataset
from yolodeploy.errors import DataError, EnvironmentProblem, PlanRefused
from yolodeploy.execution import Runner, as_artifact, failing_as
from yolodeploy.hosts import LOCAL, Host
from yolodeploy.measure.place import place_of, require_claim
from yolodeploy.measure.results import conditions_at
from yolodeploy.planning import PlannedStep
from yolodeploy.system import file_digest

if TYPE_CHECKING:
    from yolodeploy.tasks import Task

REVISION = 2  # of tables
MAP_REVISION = 1


def survey_layers(
    runner: Runner, images: int, *, by_map: bool, host: Host = LOCAL
) -> list[dict[str, Any]]:
    """One table for each step of the recipe that compresses layers.

    A row has layer, part, scheme, weights, `sqnr_db` (None: no change at all) and `map_drop`, the drop of the `measure`
    of the table (None unless `by_map`); `place` says where they were measured. Raises PlanRefused if the recipe has no such step.
    """
    plan = runner.plan
    if host.claims:
        require_claim(host, host.hardware(plan.backend))
    chosen = [index for index, planned in enumerate(plan.steps) if planned.step.probe]
    if not chosen:
        able = sorted({step.name for step in plan.backend.STEPS if step.probe})
        hint = f" Add one of: {', '.join(able)}." if able else ""
        raise PlanRefused(
            f"{plan.file.where('steps')}: no step of this recipe compresses single layers.{hint}"
        )
    if by_map and not plan.views["evaluation"].labelled:
        raise DataError(
            f"{plan.file.where('data')}: --map needs labels, and the evaluation images have none. "
            "Leave --map out: the noise of the outputs needs no labels."
        )
    return [_Survey(runner, host, index, images).table(by_map=by_map) for index in chosen]


class _Survey:
    """One step of the plan, and the float artifact that it compresses."""

    def __init__(self, runner: Runner, host: Host, index: int, images: int) -> None:
        from yolodeploy.tasks import task_of

        self._runner, self._host = runner, host
        self._planned: PlannedStep = runner.plan.steps[index]
        self._input: Artifact = as_artifact(runner.result(index - 1))
        self._task: Task[Any, Any] = task_of(runner.info())
        self._place: Place | None = None
        # Another machine may find something else, so nothing that was measured elsewhere stands for it.
        backend = self._planned.backend
        self._where = {"host": conditions_at(host, runner.plan, backend)} if host.name else {}
        views = runner.plan.views
        self._view: Dataset = views.get("calibration", views["evaluation"]).spread(images)
        if problem := self._planned.backend.problem():
            raise EnvironmentProblem(f"{self._planned.at}: cannot run here: {problem}")

    def table(self, *, by_map: bool) -> dict[str, Any]:
        """The step's name and a row for every trial, in order of execution."""
        planned, plan = self._planned, self._runner.plan
        name = planned.step.name
        with (
            tempfile.TemporaryDirectory() as work,
            self._runner.console.task(f"measure layers of {name}") as report,
            failing_as(planned.at, f"measuring layers of `{name}`"),
        ):
            context = self._runner.context(planned, self._input, Path(work), report)
            key = {
                "survey": REVISION,
                "params": planned.params.model_dump(mode="json"),
                "data": {view: plan.view_digests[view] for view in context.data},
                "images": [file_digest(image) for image in self._view.images],
                "map": plan.view_digests["evaluation"] if by_map else None,
                **self._where,
            }
            found = context.memo(key, lambda: self._found(context, by_map=by_map))
        about = {
            "step": name,
            "backend": planned.backend.NAME,
            "images": len(self._view),
            "measure": str(self._task.primary),
        }
        return {**about, **found}

    def _found(self, context: Context, *, by_map: bool) -> dict[str, Any]:
        rows = self._rows(context, by_map=by_map)
        assert self._place is not None  # noqa: S101 - something was opened
        return {"place": asdict(self._place), "rows": rows}

    def _rows(self, context: Context, *, by_map: bool) -> list[dict[str, Any]]:
        from yolodeploy.compress import measure_layers

        make = self._planned.step.probe
        assert make is not None  # noqa: S101 - only such steps are surveyed
        probe = make(self._input, self._planned.params, context)
        costs = measure_layers(probe, self._input, self._open, self._view, context, len(self._view))
        drops = self._drops(probe, context) if by_map else {}
        return [
            {
                **asdict(cost.trial),
                "sqnr_db": None if math.isinf(cost.sqnr_db) else round(cost.sqnr_db, 2),
                "map_drop": drops.get(cost.trial),
            }
            for cost in costs
        ]

    def _open(self, artifact: Artifact) -> Predictor:
        target, backend = self._runner.plan.target, self._planned.backend
        opened = self._host.open(backend, artifact, target, self._host.processors)
        self._place = self._place or place_of(backend, target, self._host, opened.runtime)
        return opened

    def _drops(self, probe: Probe, context: Context) -> Mapping[Trial, float]:
        """The drop of the primary measure of every trial, on the evaluation images."""
        from yolodeploy.compress import alone
        from yolodeploy.tasks import COLUMNS, primary_score, required_score

        view, task = self._runner.plan.views["evaluation"], self._task

        def score(artifact: Artifact) -> float:
            opened = self._open(artifact)
            return primary_score(opened, view, context.imgsz, task, context.head)

        def score_alone(trial: Trial) -> float:
            with alone(probe, trial, self._input.format, context) as artifact:
                return score(artifact)

        digests = self._runner.plan.view_digests
        key = {"map": MAP_REVISION, "data": digests["evaluation"], **self._where}
        baseline = context.memo(key, lambda: required_score(score(self._input), "evaluation"))
        drops = {}
        for number, trial in enumerate(probe.trials):
            context.progress(
                number / len(probe.trials), f"{COLUMNS[task.primary]} {number}/{len(probe.trials)}"
            )
            full = {**key, "probe": dict(probe.key), "trial": asdict(trial)}
            value = context.memo(full, partial(score_alone, trial))
            drops[trial] = round(baseline - value, 6)
        return drops
