"""Opens and measures the results of a plan's steps.

The results between the source model and the artifact are measured if a step changes the model before it is
exported, or if a check asks for a step's drop: each in its own backend's runtime, on the evaluation images.
Each is kept in the store by step, so that a change of a late step does not measure the earlier ones again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolodeploy.backend import Backend, Counting, Counts, Predictor, Runtime, batch_of, layout_of
from yolodeploy.errors import StepFailed, YolodeployError
from yolodeploy.execution import Runner, as_artifact, failing_as
from yolodeploy.hosts import LOCAL, Host
from yolodeploy.planning import Plan, PlannedStep, gpu_here, require_views
from yolodeploy.store import Stored
from yolodeploy.system import Report, StatCache, adapter, digest_of
from yolodeploy.tasks import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Outputs
    from yolodeploy.tasks import Run

REVISION = 4
_MAX_COPIES, _IMAGES_A_COPY = 4, 16  # opening another copy takes memory, and time
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Facts:
    """A step's result: digest, size in bytes, runtime, and parameters and FLOPs if its plugin counts them."""

    digest: str
    bytes: int
    runtime: Runtime
    counts: Counts | None


class Opened:
    """A predictor of a step's result on a host; `name` is what messages call the result, `layout` what it returns."""

    def __init__(
        self,
        plan: Plan,
        planned: PlannedStep,
        result: Stored,
        name: str,
        host: Host,
        on_threads: int = 1,
    ) -> None:
        self.planned, self.result, self.name, self._host = planned, result, name, host
        self._threads = on_threads
        self._artifact, self._imgsz, self._target = as_artifact(result), plan.imgsz, plan.target
        self._predictor = self._open()
        self.runtime = self._predictor.runtime
        self.batch = batch_of(self._predictor)
        with failing_as(self.planned.at, f"opening {self.name}"):
            self.layout = layout_of(self._predictor)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run the result on a batch."""
        return self._run(self._predictor, images)

    def copies(self, images: int) -> list[Run]:
        """The predictor, and others of the same result to run beside it, as far as so many images are worth it.

        Two images at once on one thread each take less time than one image on two threads.
        """
        count = min(self._host.processors, _MAX_COPIES, images // _IMAGES_A_COPY)
        return [self, *(partial(self._run, self._open()) for _ in range(count - 1))]

    def _open(self) -> Predictor:
        with failing_as(self.planned.at, f"opening {self.name}"):
            backend = self.planned.backend
            return self._host.open(backend, self._artifact, self._target, self._threads)

    def _run(
        self, predictor: Predictor, images: NDArray[np.float32]
    ) -> NDArray[np.float32] | Outputs:
        with failing_as(self.planned.at, f"running {self.name}"):
            return predictor(images)

    def require_finite(
        self, output: NDArray[np.float32], image: Path, error: type[YolodeployError], remedy: str
    ) -> None:
        """Raise `error` if an output has values that are not finite."""
        import numpy as np

        if not np.isfinite(output).all():
            raise error(
                f"{self.planned.at}: for {image.name} the output of {self.name} has values that are not "
                f"finite. {remedy}"
            )

    def facts(self) -> Facts:
        """Size, runtime and counts of the result."""
        backend, counts = self.planned.backend, None
        if isinstance(backend, Counting):
            with failing_as(self.planned.at, f"counting the result of `{self.planned.step.name}`"):
                counts = backend.count(self._artifact, self._imgsz)
        return Facts(self.result.meta.digest, self.result.meta.bytes, self.runtime, counts)


def remember_as(
    kind: type[_Value],
    runner: Runner,
    id_: str,
    label: str,
    measure: Callable[[Path], _Value],
    views: Sequence[str] = ("evaluation",),
    checked: StatCache | None = None,
) -> tuple[_Value, Path]:
    """A typed value from the store, or measured now; and the object's folder.

    Raises DataError if images of the views changed meanwhile; `checked` knows those that were read again already.
    """
    typed = adapter(kind)

    def compute(folder: Path) -> Any:
        value = measure(folder)
        require_views(runner.plan, views, checked)
        return typed.dump_python(value, mode="json")

    raw, folder = runner.store.remember(id_, label, compute)
    return typed.validate_python(raw), folder


def conditions_at(host: Host, plan: Plan, backend: Backend) -> dict[str, Any]:
    """Everything about a host that a measurement of a plan depends on, its GPU included where the recipe asks for one.

    Its name, too: of two machines that say the same of themselves, each has its own figures.
    """
    if host.name:
        return {**host.conditions(backend), "host": host.name}
    gpu = dict(gpu_here(plan).conditions)
    return {**host.conditions(backend), **({"gpu": gpu} if gpu else {})}


def in_detail(plan: Plan) -> bool:
    """Whether the results between the source model and the artifact are measured."""
    return plan.export > 1 or bool(plan.file.recipe.checks.step_drop)


def timed(plan: Plan) -> dict[str, int]:
    """What takes turns with the artifact: the index of each step by the id of the result that runs for it."""
    indexes = range(len(plan.steps) - 1) if in_detail(plan) else (plan.export - 1,)
    found = ((timed_step(plan, index), index) for index in indexes)
    return {planned.id: index for planned, index in found if planned}


def is_there(runner: Runner, index: int) -> bool:
    """Whether the result that runs for a step can be had: of a runner that does not build, whether it was built before."""
    planned = timed_step(runner.plan, index)
    if runner.builds or planned is None:
        return planned is not None
    ids = [planned.id]
    if 0 < index < runner.plan.export:
        ids.append(runner.plan.steps[index].id)  # what was exported
    return all(runner.store.peek(id_) for id_ in ids)


def timed_result(runner: Runner, index: int) -> Stored:
    """The result that runs for a step: its own, or its float export if it comes before the export."""
    return runner.float_export(index) if index < runner.plan.export else runner.result(index)


def timed_step(plan: Plan, index: int) -> PlannedStep | None:
    """The step whose result runs for a step; None if the export does not take its format."""
    return plan.floats.get(index) if index < plan.export else plan.steps[index]


@dataclass(frozen=True)
class Stage:
    """What was measured of a step's result; `facts` is None if nothing was."""

    facts: Facts | None
    measures: tuple[Measure, ...]


def obtain_stage(runner: Runner, host: Host, index: int, source: Callable[[], list[Any]]) -> Stage:
    """What was measured of a step's result: from the store, or measured now.

    Results of the target's backend are measured on the host, those before its export here. `source` gives what the
    source model found.
    """
    plan, planned, result = runner.plan, runner.plan.steps[index], runner.result(index)
    where = host if planned.backend is plan.backend else LOCAL
    id_ = digest_of(
        {
            "revision": REVISION,
            "step": planned.id,
            "result": result.meta.digest,  # a training step may give other bytes next time
            "source": plan.steps[0].id,
            "data": plan.view_digests["evaluation"],
            "imgsz": plan.imgsz.plain,
            "conditions": conditions_at(where, plan, planned.backend),
        }
    )

    def measure(_: Path) -> Stage:
        name = f"the result of `{planned.step.name}`"
        model = Opened(plan, planned, result, name, where)
        with runner.console.task(f"measure {name}") as report:
            return Stage(model.facts(), _scores(runner, model, source(), report))

    stage, _ = remember_as(Stage, runner, id_, "stage", measure)
    return stage


def _scores(
    runner: Runner, model: Opened, source: list[Any], report: Report
) -> tuple[Measure, ...]:
    from yolodeploy.tasks import Tally, evaluate, scores, task_of

    view, head = runner.plan.views["evaluation"], runner.info().head
    task = task_of(runner.info())
    tally = Tally(task, source=source)
    remedy = "Change the step's parameters, or report it with the recipe."
    copies = model.copies(len(view))
    for seen in evaluate(view, runner.imgsz, copies, task=task, head=head, progress=report):
        for output in seen.outputs[0].values():
            model.require_finite(output, seen.image, StepFailed, remedy)
        tally.add(seen)
    return scores(tally, labelled=view.labelled)
