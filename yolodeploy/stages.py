"""Measuring the results of a plan's steps that lie between the first model and the artifact.

They are measured where something changes the model before it is exported, or where a check asks for a
step's drop: each in its own backend's runtime, on the evaluation images. What was measured is kept in
the store by step, so that a change at the end of the chain measures nothing before it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Artifact, Predictor
from yolodeploy.console import Report
from yolodeploy.counts import Counting
from yolodeploy.digest import digest_of
from yolodeploy.errors import StepFailed
from yolodeploy.failing import failing_as
from yolodeploy.machine import conditions, threads
from yolodeploy.objects import Stored
from yolodeploy.plan import Plan, PlannedStep
from yolodeploy.run import Runner
from yolodeploy.unchanged import require_views

if TYPE_CHECKING:
    from yolodeploy.detect import Detections
    from yolodeploy.images import Letterboxed

REVISION = 1
SOURCE_DETECTIONS = "source.npz"  # in the evidence's folder
_FILE = "stage.json"


def in_detail(plan: Plan) -> bool:
    """Whether the results between the first model and the artifact are measured."""
    return plan.export > 1 or bool(plan.file.recipe.checks.step_drop)


def timed(plan: Plan) -> dict[str, int]:
    """What is timed in turns with the artifact: indexes of steps by id of what runs for them."""
    indexes = range(len(plan.steps) - 1) if in_detail(plan) else (plan.export - 1,)
    found = ((timed_step(plan, index), index) for index in indexes)
    return {planned.id: index for planned, index in found if planned}


def timed_result(runner: Runner, index: int) -> Stored:
    """The artifact that runs for a step: its result, before the export the float export of it."""
    return runner.float_export(index) if index < runner.plan.export else runner.result(index)


def timed_step(plan: Plan, index: int) -> PlannedStep | None:
    """The step whose result is timed for a step; None before the export if that takes another format."""
    return plan.floats.get(index) if index < plan.export else plan.steps[index]


def opened(planned: PlannedStep, what: str, artifact: Artifact, plan: Plan) -> Predictor:
    """Open a step's result in its backend's runtime."""
    with failing_as(planned.at, f"opening {what}"):
        return planned.backend.open(artifact, plan.target, threads())


def facts(plan: Plan, index: int, result: Stored) -> dict[str, Any]:
    """Size in bytes of a step's result, and parameters and multiply-accumulates if its plugin counts."""
    planned, backend = plan.steps[index], plan.steps[index].backend
    counts = None
    if isinstance(backend, Counting):
        with failing_as(planned.at, f"counting the result of `{planned.step.name}`"):
            counts = backend.count(result.artifact, plan.file.recipe.model.imgsz)
    return {"bytes": result.meta.bytes, "counts": counts and asdict(counts)}


class Stage:
    """The result of a step between the first and the last."""

    def __init__(self, runner: Runner, index: int, evidence: Path) -> None:
        self._runner = runner
        self._index = index
        self._planned = runner.plan.steps[index]
        self._result = runner.result(index)
        self._evidence = evidence

    def obtain(self) -> dict[str, Any]:
        """What was measured of it: from the store, or measured now."""
        plan, runner = self._runner.plan, self._runner
        id_ = digest_of(
            {
                "revision": REVISION,
                "step": self._planned.id,
                "result": self._result.meta.digest,  # a training step may give other bytes next time
                "source": plan.steps[0].id,
                "data": plan.view_digests["evaluation"],
                "imgsz": plan.file.recipe.model.imgsz,
                "conditions": conditions(),
            }
        )
        stored = runner.store.obtain(id_, "measure", "stage", self._make, runner.console.warn)
        stage: dict[str, Any] = json.loads((stored.path / _FILE).read_text(encoding="utf-8"))
        return stage

    def _make(self, work: Path) -> Path:
        what = f"the result of `{self._planned.step.name}`"
        predictor = opened(self._planned, what, self._result.artifact, self._runner.plan)
        with self._runner.console.task(f"measure {what}") as report:
            stage = {
                **facts(self._runner.plan, self._index, self._result),
                "runtime": predictor.runtime.name,
                **self._accuracy(predictor, report),
            }
        require_views(self._runner.plan, ["evaluation"])
        text = json.dumps(stage, indent=1, sort_keys=True, allow_nan=False)
        (work / _FILE).write_text(text + "\n", encoding="utf-8")
        return work

    def _accuracy(self, predictor: Predictor, report: Report) -> dict[str, Any]:
        from yolodeploy.accuracy import Tally, scores
        from yolodeploy.detect import load_detections
        from yolodeploy.metrics import Truth

        view = self._runner.plan.views["evaluation"]
        tally = Tally(source=load_detections(self._evidence / SOURCE_DETECTIONS))
        for number, image in enumerate(view.images):
            box, found = self._detect(predictor, image)
            tally.truths.append(Truth(view.boxes(image), box.width, box.height))
            tally.artifact.append(found)
            report((number + 1) / len(view), f"{number + 1}/{len(view)} images")
        return scores(tally, view.names, labelled=view.labelled)

    def _detect(self, predictor: Predictor, image: Path) -> tuple[Letterboxed, Detections]:
        import numpy as np

        from yolodeploy.detect import detect
        from yolodeploy.images import letterboxed_file, to_tensor
        from yolodeploy.rules import EVALUATION

        box = letterboxed_file(image, self._runner.plan.file.recipe.model.imgsz)
        name, at = self._planned.step.name, self._planned.at
        with failing_as(at, f"running the result of `{name}`"):
            raw = predictor(to_tensor(box.pixels))[0]
        if not np.isfinite(raw).all():
            raise StepFailed(
                f"{at}: for {image.name} the model that `{name}` made gives values that are not "
                "finite. Change its parameters, or report it with the recipe."
            )
        return box, detect(raw, EVALUATION, box)
